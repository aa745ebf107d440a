"""Write captions beside their images, so that it can be undone: what was there before is kept first.

    {file: text} -> journal of the old bytes -> files, each replaced whole -> undo: the old bytes

The journals lie in `.lorasweep-captions/` in the dataset, one per change, newest undone first. A journal is
written before the first file is touched: after a kill, every file is the old or the new one, and undo knows both.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lorasweep.core import files
from lorasweep.core.errors import DatasetError, Problem

_JOURNALS = ".lorasweep-captions"


@dataclass(frozen=True)
class Change:
    """One caption file as it was and as it will be; None: no such file."""

    file: Path
    before: bytes | None
    after: bytes | None


def changes(texts: Mapping[Path, str]) -> list[Change]:
    """Compare texts with the files that they are for; those that say so already, with or without a line's end, stay."""
    found = [Change(path, _content(path), text.encode()) for path, text in texts.items()]
    return [each for each in found if each.before is None or each.before.rstrip(b"\r\n") != each.after]


def write(root: Path, changed: list[Change]) -> None:
    """Write every file, after a journal that can undo it."""
    if not changed:
        return
    number = max((int(path.stem) for path in _journals(root)), default=0) + 1
    rows = {
        change.file.relative_to(root).as_posix(): [_coded(change.before), _coded(change.after)] for change in changed
    }
    files.write_json(root / _JOURNALS / f"{number:04}.json", rows)
    for change in changed:
        _put(change.file, change.after)


def undo(root: Path) -> list[Path]:
    """Bring back every byte that the newest change replaced; returns the files.

    Raises:
        DatasetError: there is no change, or it is not as it was written; or a file was edited since, and nothing is
            touched.
    """
    journals = _journals(root)
    if not journals:
        raise DatasetError(Problem(str(root), "has no change of captions to undo"), subject="the captions")
    try:
        rows = files.read_json(journals[-1])
        old = [Change(root / name, _bytes(after), _bytes(before)) for name, (before, after) in rows.items()]
        inside = Path(os.path.normpath(root))
        if outside := [each for each in old if inside not in Path(os.path.normpath(each.file)).parents]:
            raise ValueError(f"it names {outside[0].file}")  # a dataset may be a stranger's
    except (OSError, ValueError, TypeError, AttributeError) as error:
        problem = Problem(str(journals[-1]), f"is not as lorasweep wrote it: {error}", "move it away")
        raise DatasetError(problem, subject="the captions") from error
    problems = [
        Problem(str(change.file), "was edited since lorasweep wrote it", "move it away, or keep it and the change")
        for change in old
        if _content(change.file) not in (change.before, change.after)
    ]
    if problems:
        raise DatasetError(problems, subject="the captions")
    for change in old:
        _put(change.file, change.after)
    journals[-1].unlink()
    return [change.file for change in old]


def _journals(root: Path) -> list[Path]:
    return sorted(
        (path for path in (root / _JOURNALS).glob("*.json") if path.stem.isdecimal()), key=lambda path: int(path.stem)
    )


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _put(path: Path, content: bytes | None) -> None:
    """Replace what a file holds, the one behind it where it is a link; None takes it away."""
    if content is None:
        path.unlink(missing_ok=True)
    else:
        files.write_atomic(path.resolve(), lambda temporary: temporary.write_bytes(content))


def _coded(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _bytes(coded: str | None) -> bytes | None:
    return None if coded is None else base64.b64decode(coded)
