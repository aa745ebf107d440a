"""Where things live: `LORASWEEP_HOME` when it is set, else the current folder; and may results be written there?"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from lorasweep.core.errors import InputError, Problem

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # a full disk, a quota, a limit on the size of a file
_PROBE_BYTES = 2**16  # a disk with less room than a page of results is full
_DEVICE = re.compile(r"(?i)con|prn|aux|nul|(com|lpt)\d")
SINGLE_RUNS, JUDGED_RUNS = "train", "judge"  # in the outputs, beside the sweeps
# What there is in the cache: folders, and small files beside them.
Cache = Literal["latents", "texts", "features", "base_samples", "class_images", "dollhouse", "tags", "inputs"]
Facts = Literal["digests", "finite", "images", "speed"]


def typed(path: str | Path) -> Path:
    """Return a path that a person typed, with `~` as the home folder: shells leave it in `--out=~/x`.

    A `Path` was typed before: one that begins with the `~` of nobody is a name.

    Raises:
        InputError: it is empty, or begins with the `~` of somebody who has no home here.
    """
    if isinstance(path, Path):
        return Path(os.path.expanduser(path))
    if not isinstance(path, str):
        raise InputError(Problem(repr(path)[:80], "must be a path as text", "or a pathlib.Path"), subject="a path")
    if not path.strip():
        raise InputError(Problem(repr(path), "must not be empty", "for this folder: ."), subject="a path")
    expanded = os.path.expanduser(path)
    if path.startswith("~") and expanded == path:
        name = path.split("/")[0]
        hint = f"write the folder in full, or ./{path} for a folder of that name"
        raise InputError(Problem(path, f"`{name}` has no home folder here", hint), subject="a path")
    return Path(expanded)


def whole(path: Path) -> Path:
    """Return a path whose accented letters are one character each, as typed: macOS takes those of names apart."""
    name = str(path)
    return path if unicodedata.is_normalized("NFC", name) else Path(unicodedata.normalize("NFC", name))


def is_portable(name: str) -> bool:
    """Tell whether Windows takes a name for a file or a folder, not for a device or without its last dot."""
    return not name.endswith(".") and not _DEVICE.fullmatch(name.partition(".")[0])


def as_here(path: str) -> str:
    """Read a path from a file that may come from Windows: with `/` for its backslashes where that names something."""
    here = path.replace("\\", "/")
    found = os.sep == "/" and not os.path.exists(path) and os.path.exists(os.path.expanduser(here))
    return here if found else path


def short(path: Path) -> str:
    """Return the name of an image or a caption as a person would look it up: folder and file."""
    return f"{path.parent.name}/{path.name}"


def home() -> Path:
    """Return the folder that holds `outputs/`, `mlruns/` and `cache/`; absolute."""
    return typed(os.environ.get("LORASWEEP_HOME") or ".").resolve()


def outputs() -> Path:
    """Run folders: `outputs/<sweep>/<trial>/`."""
    return home() / "outputs"


def cache(kind: Cache | None = None) -> Path:
    """Return the folder of what is kept to be quicker the next time, or of one kind of it; safe to delete."""
    return home() / "cache" / (kind or "")


def facts(name: Facts) -> Path:
    """Return a file of the cache: what is known of other files, or of this machine."""
    return cache() / f"{name}.json"


def scratch() -> Path:
    """Return the folder in which a machine holds what it cooks for a driver elsewhere."""
    return home() / "scratch"


def mlruns() -> Path:
    """Return the default MLflow store: `mlruns/mlflow.db` and its artifacts."""
    return home() / "mlruns"


def require_writable(folder: Path, *, option: str = "") -> None:
    """Make `folder`, which `option` named (empty: LORASWEEP_HOME), or raise InputError: why it cannot hold results."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
    except OSError as error:
        raise InputError(unwritable(folder, error, option=option), subject="the output folder") from error


def unwritable(folder: Path, error: OSError, *, what: str = "results", option: str = "") -> Problem:
    """Say why a folder cannot hold something, and what to do; `option` as in `require_writable`."""
    reason = "is a file, not a folder" if isinstance(error, FileExistsError) else error.strerror or str(error)
    hint = f"choose another place with {option or 'LORASWEEP_HOME=/some/folder'}"
    if error.errno in NO_ROOM:
        reason = f"there is no room left ({reason})"
        hint = f"{make_room(reason)} and run the same command, or {hint}"
    return Problem(str(folder), f"{what} cannot be written here: {reason}", hint)


def make_room(reason: str) -> str:
    """Say what helps where there is no room left, by the words of the error."""
    limit = "raise the limit on the size of a file (`ulimit -f`)"
    if "disk i/o error" in reason.lower():  # SQLite's, of a quota, a limit and a failing disk alike
        return f"free some space, {limit}, or look after the disk"
    return limit if os.strerror(errno.EFBIG).lower() in reason.lower() else "free some space"


def require_replaceable(path: Path | None, is_ours: Callable[[Path], bool], *, option: str) -> None:
    """Refuse a place that cannot be written to, or a file there that this command would not write just so.

    Raises:
        InputError: a folder, or a file that is not `is_ours`, is there; or the folder for it cannot be made.
    """
    if path is None:
        return
    if not path.exists():
        require_writable(path.parent, option=option)
        return
    try:
        replaceable = path.is_file() and is_ours(path)
    except (OSError, ValueError, InputError):
        replaceable = False
    if not replaceable:
        message = f"{path} is there already, and is no file that this command wrote, or was changed since"
        raise InputError(Problem(option, message, "name another file, or move that one away"), subject=option)


def require_picture(path: Path | None, *, option: str) -> None:
    """Refuse a place for a picture, as `require_replaceable`, or a name that says another format than PNG."""
    if path is not None and path.suffix.lower() not in ("", ".png"):
        message = f"must end in .png, got {path}"
        raise InputError(Problem(option, message, f"e.g. {path.with_suffix('.png')}"), subject=option)
    require_replaceable(path, _is_our_picture, option=option)


def _is_our_picture(path: Path) -> bool:
    """Tell whether a PNG says that it was drawn by lorasweep."""
    from PIL import Image

    with Image.open(path) as picture:
        return picture.info.get("Software") == "lorasweep"
