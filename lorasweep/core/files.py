"""Files that survive a power cut: written whole or not at all, and logs whose torn last line is tolerated."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lorasweep.core import paths, printable

_log = logging.getLogger(__name__)

# Windows replaces no file that somebody reads just now, which takes milliseconds.
READ_PATIENCE_S = 5.0 if os.name == "nt" else 0.0

_UMASK = os.umask(0o077)  # what others may not, which Python tells to who changes it
os.umask(_UMASK)
_LARGE_BYTES = 2**28  # an SDXL of 7 GB takes a quarter of a minute to read
_digests: dict[str, str] = {}  # path and stamp -> SHA-256 of the content


def write_atomic(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Let `write` fill a temporary neighbour of `path`, with its suffix, flush it to disk and rename it over `path`.

    The folder is made when missing. Unless it is `durable`, the new name is not flushed: a power cut may bring back
    what was there before, whole, until another file in this folder is written durably.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix, suffix = f".{cut(path.stem, 100)}.", cut(path.suffix, 100)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        os.chmod(temporary, 0o666 & ~_UMASK)
        with open(temporary, "rb+") as file:  # Windows flushes only what may be written
            os.fsync(file.fileno())
        _replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # of a full disk, it names no file
            error.filename = error.filename or str(path)
        raise
    if durable:
        sync_folder(path.parent)


def _replace(source: Path, target: Path) -> None:
    """Rename over what is there, as soon as nobody is in the way."""
    deadline = time.monotonic() + READ_PATIENCE_S
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


def write_folder(folder: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` fill a temporary neighbour of `folder`, flush it and rename it into place.

    Raises:
        OSError: as `fill` or the file system do, and when a filled `folder` is there already.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{cut(folder.name, 100)}."))
    try:
        fill(temporary)
        sync_folder(temporary)
        os.chmod(temporary, 0o777 & ~_UMASK)
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def write_folder_once(folder: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` fill a folder, as `write_folder` does, unless another process is quicker: then that one's stays."""
    try:
        write_folder(folder, fill)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write UTF-8 text atomically; `durable` as in `write_atomic`."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), durable=durable)


def write_json(path: Path, data: Any, *, durable: bool = True) -> None:
    """Write indented JSON atomically; NaN and infinity are refused (a missing number is missing)."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n", durable=durable)


def read_json(path: Path) -> Any:
    """Read JSON; raises FileNotFoundError or json.JSONDecodeError as `open` and `json` do."""
    return json.loads(path.read_text(encoding="utf-8"))


def matching(folder: Path, pattern: str) -> list[Path]:
    """List what matches in a folder, by name, but hidden files: macOS leaves a `._x.json` beside an `x.json`."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def find_object(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None when there is none that can be read."""
    try:
        data = read_json(path)
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty when there is none that can be read."""
    return find_object(path) or {}


def write_cache(path: Path, found: Mapping[str, Any]) -> None:
    """Write what is only remembered to save time; where that cannot be, it only costs time."""
    with contextlib.suppress(OSError):
        write_json(path, found)


def append_jsonl(path: Path, row: dict[str, Any], *, durable: bool = False) -> None:
    """Append one event as a line; a single `write` call, so that a kill tears at most the last line.

    A torn tail left by an earlier kill is closed with a newline first, so that it cannot swallow this event.
    What is `durable` is on the disk when this returns.
    """
    line = (json.dumps(row, allow_nan=False) + "\n").encode()
    with open(path, "ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a whole log atomically."""
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def read_jsonl(path: Path, *, fits: Callable[[dict[str, Any]], bool] = lambda row: True) -> Iterator[dict[str, Any]]:
    """Yield the rows of a log that fit; an absent file is an empty log.

    A torn line is skipped, and one that is none of this log's is named besides.
    """
    if path.exists():
        with open(path, "rb") as file:
            yield from rows_of(file, path, fits=fits)


def rows_of(lines: Iterable[bytes], path: Path, *, fits: Callable[[dict[str, Any]], bool]) -> Iterator[dict[str, Any]]:
    """Yield the rows among some lines of a log, as `read_jsonl` does."""
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            if not line.strip() or line.startswith(b'{"'):
                continue
            row = None
        if isinstance(row, dict) and fits(row):
            yield row
        else:
            _name_foreign(path, line.strip()[:60])


@functools.cache
def _name_foreign(path: Path, start: bytes) -> None:
    """Name a line that is skipped, once in a process."""
    text = printable.readable(start.decode("utf-8", "replace"))
    _log.warning("%s: skipped a line that is none of its own: %s", path, text)


def link_or_copy(source: str, target: str) -> None:
    """Hard-link where the file system can: results are replaced whole, never edited; logs are appended to."""
    Path(target).unlink(missing_ok=True)
    if not source.endswith(".jsonl"):
        try:
            os.link(source, target)
            return
        except OSError:
            pass
    shutil.copy2(source, target)


def sync_folder(folder: Path) -> None:
    """Make a rename durable; folders cannot be opened on every platform, hence the guard."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cut(name: str, most_bytes: int) -> str:
    """Cut a name to so many bytes, at a whole character: file systems take 255."""
    return name.encode("utf-8", "surrogateescape")[:most_bytes].decode("utf-8", "ignore")


def sha256(path: Path) -> str:
    """Return the hex digest of a file's content, read piece by piece."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(file: Path) -> tuple[int, int, int]:
    """Return size and times, in ns, of a file that is another when its content is.

    Both times: what puts the first back after a change (`exiftool -P`, `rsync -t`, `touch -r`) moves the second, but on
    Windows.
    """
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file, remembered by path and stamp; of a large one in `cache/digests.json` too."""
    size, *times = stamp(file)
    key = " ".join(map(str, [file.resolve(), size, *times]))
    if key not in _digests:
        memory = paths.facts("digests")
        known = read_object(memory) if size >= _LARGE_BYTES else {}
        if key not in known:
            known = {**known, key: sha256(file)}
            if size >= _LARGE_BYTES:
                write_cache(memory, known)
        _digests[key] = known[key]
    return _digests[key]
