"""Where things live: `LORASWEEP_HOME` when it is set, else the current folder."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder that holds `outputs/`, `mlruns/` and `cache/`; absolute."""
    return Path(os.environ.get("LORASWEEP_HOME") or ".").expanduser().resolve()


def outputs() -> Path:
    """Run folders: `outputs/<sweep>/<trial>/`."""
    return home() / "outputs"


def spelled_out(run: str) -> str:
    """SWEEP/TRIAL of SWEEP/NUMBER, as `status` numbers them; anything else as it is.

    `quickstart/3` is `quickstart/0003-overcooked-s0`.
    """
    sweep, _, number = run.partition("/")
    if not (number.isascii() and number.isdigit()):
        return run
    found = [path.name for path in (outputs() / sweep).glob(f"{int(number):04d}-*") if path.is_dir()]
    return f"{sweep}/{found[0]}" if len(found) == 1 else run


def candidates(named: str) -> tuple[Path, Path]:
    """Where a sweep or run may be that somebody named: in the output folder, else the path as typed."""
    return outputs() / spelled_out(named), Path(named).expanduser()


def cache() -> Path:
    """Latents, caption embeddings, drawn dollhouse datasets; safe to delete."""
    return home() / "cache"


def mlruns() -> Path:
    """The default MLflow store: `mlruns/mlflow.db` and its artifacts."""
    return home() / "mlruns"
