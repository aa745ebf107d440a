"""Where things live: `LORASWEEP_HOME` when it is set, else the current folder."""

from __future__ import annotations

import os
from pathlib import Path

from lorasweep.errors import InputError, Problem


def typed(path: str) -> Path:
    """A path that a person typed, with `~` as the home folder: shells leave it in `--out=~/x`.

    Raises:
        InputError: it begins with the `~` of somebody who has no home here.
    """
    expanded = os.path.expanduser(path)
    if path.startswith("~") and expanded == path:
        name = path.split("/")[0]
        hint = f"write the folder in full, or ./{path} for a folder of that name"
        raise InputError(Problem(path, f"`{name}` has no home folder here", hint), subject="a path")
    return Path(expanded)


def home() -> Path:
    """The folder that holds `outputs/`, `mlruns/` and `cache/`; absolute."""
    return typed(os.environ.get("LORASWEEP_HOME") or ".").resolve()


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
    return outputs() / spelled_out(named), typed(named)


def cache() -> Path:
    """Latents, caption embeddings, drawn dollhouse datasets; safe to delete."""
    return home() / "cache"


def mlruns() -> Path:
    """The default MLflow store: `mlruns/mlflow.db` and its artifacts."""
    return home() / "mlruns"
