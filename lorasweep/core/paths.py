"""Where things live: `LORASWEEP_HOME` when it is set, else the current folder."""

from __future__ import annotations

import os
from pathlib import Path

from lorasweep.core.errors import InputError, Problem

SINGLE_RUNS = "train"  # in the outputs, beside the sweeps


def typed(path: str) -> Path:
    """A path that a person typed, with `~` as the home folder: shells leave it in `--out=~/x`.

    Raises:
        InputError: it is empty, or begins with the `~` of somebody who has no home here.
    """
    if not path.strip():
        raise InputError(Problem(repr(path), "must not be empty", "for this folder: ."), subject="a path")
    expanded = os.path.expanduser(path)
    if path.startswith("~") and expanded == path:
        name = path.split("/")[0]
        hint = f"write the folder in full, or ./{path} for a folder of that name"
        raise InputError(Problem(path, f"`{name}` has no home folder here", hint), subject="a path")
    return Path(expanded)


def as_here(path: str) -> str:
    """A path from a file that may come from Windows; with `/` for its backslashes where that names something here."""
    here = path.replace("\\", "/")
    found = os.sep == "/" and not os.path.exists(path) and os.path.exists(os.path.expanduser(here))
    return here if found else path


def home() -> Path:
    """The folder that holds `outputs/`, `mlruns/` and `cache/`; absolute."""
    return typed(os.environ.get("LORASWEEP_HOME") or ".").resolve()


def outputs() -> Path:
    """Run folders: `outputs/<sweep>/<trial>/`."""
    return home() / "outputs"


def cache() -> Path:
    """Latents, caption embeddings, drawn dollhouse datasets; safe to delete."""
    return home() / "cache"


def mlruns() -> Path:
    """The default MLflow store: `mlruns/mlflow.db` and its artifacts."""
    return home() / "mlruns"
