"""Where things live: `LORASWEEP_HOME` when it is set, else the current folder."""

from __future__ import annotations

import os
from pathlib import Path

SINGLE_RUNS = "train"  # in the outputs, beside the sweeps


def home() -> Path:
    """The folder that holds `outputs/`, `mlruns/` and `cache/`; absolute."""
    return Path(os.environ.get("LORASWEEP_HOME") or ".").expanduser().resolve()


def outputs() -> Path:
    """Run folders: `outputs/<sweep>/<trial>/`."""
    return home() / "outputs"


def cache() -> Path:
    """Latents, caption embeddings, drawn dollhouse datasets; safe to delete."""
    return home() / "cache"


def mlruns() -> Path:
    """The default MLflow store: `mlruns/mlflow.db` and its artifacts."""
    return home() / "mlruns"
