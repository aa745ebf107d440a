"""A sweep's folder by its name, or by a path to it."""

from __future__ import annotations

from pathlib import Path

from lorasweep import paths
from lorasweep.errors import InputError, Problem


def sweep_folders() -> list[Path]:
    """The folders in the output folder, by name."""
    root = paths.outputs()
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def find_sweep_folder(name: str, *, subject: str) -> Path:
    """Find a sweep's folder.

    Args:
        name: of the sweep, of its file, or a path to its folder.
        subject: the command, for the error.

    Raises:
        InputError: there is none of this name.
    """
    single_runs = paths.outputs() / "train"
    for folder in (paths.outputs() / Path(name).stem, paths.typed(name)):
        if (folder / "sweep.yaml").is_file() or (folder == single_runs and folder.is_dir()):
            return folder.resolve()
    known = ", ".join(path.name for path in sweep_folders()) or "none yet"
    raise InputError(Problem(name, f"no such sweep in {paths.outputs()}", f"known: {known}"), subject=subject)
