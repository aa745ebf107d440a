"""Read captions as people keep them: a text file beside each image, or one `metadata.jsonl` or `.csv`.

Takes paths, gives back text on one line; what is unfit is appended to the caller's problems.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep.core import paths
from lorasweep.core.errors import Problem
from lorasweep.core.printable import has_control_characters, some
from lorasweep.data import mending

METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
_COLUMNS = ("text", "caption", "prompt")  # diffusers' default first
BYTE_ORDER_MARK = "\ufeff"
LARGEST_BYTES = 64_000  # of a caption; CLIP reads some 300


@dataclass(frozen=True)
class Metadata:
    """Captions of a folder in Hugging Face's imagefolder layout."""

    file: Path  # where they are
    captions: dict[Path, str]  # by the image's path; none twice
    repeated: tuple[Path, ...] = ()  # images whose later rows say something else
    unread: str = ""  # why nothing, or not all, was read although there are rows; "" otherwise


def by_image(files: Iterable[Path], extension: str) -> dict[Path, Path]:
    """Map images, without their suffix, to the caption files that may be theirs; `beside` looks one up.

    `.TXT` is `.txt`, as on Windows; where both are there, the one that is written as `extension` counts.
    """
    found: dict[Path, Path] = {}
    for path in files:
        name = path.name
        if not name.lower().endswith(extension.lower()):
            continue
        image = path.with_name(name[: -len(extension)]) if len(name) > len(extension) else path
        if name.endswith(extension) or image not in found:
            found[image] = path
    return {**{paths.whole(image): path for image, path in found.items()}, **found}


def beside(image: Path, found: Mapping[Path, Path]) -> Path | None:
    """Return the caption file of an image, also where one of the two names has its accented letters taken apart."""
    stem = image.with_suffix("")
    return found.get(stem) or found.get(paths.whole(stem))


def read_caption(path: Path, problems: list[Problem], encoding: str = "utf-8") -> str | None:
    """Read a caption file as it is, a byte order mark included; None when it is unfit, which is a problem.

    `encoding` is of files that are not UTF-8.
    """
    where = paths.short(path)
    try:
        with open(path, "rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            message = f"caption must have at most {LARGEST_BYTES // 1000} KB"
            problems.append(Problem(where, message, "is it a caption? move it away, or shorten it"))
            return None
        text = _decoded(content, encoding)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        message = f"caption must be UTF-8, got byte 0x{byte:02x} at {error.start}"
        likely = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252"
        again = mending.rewrite(path.parent, "--encoding", likely)
        problems.append(Problem(where, message, f"save it again as UTF-8: {again}"))
    except OSError as error:
        problems.append(Problem(where, f"caption cannot be read: {error.strerror}"))
    else:
        if _is_text(text):
            return text
        problems.append(Problem(where, "caption must be text, it has control characters", "save it anew"))
    return None


def _decoded(content: bytes, encoding: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode(encoding)


def one_line(text: str) -> str:
    """Join a caption's lines, whatever the editor did: line breaks separate no tags anywhere else."""
    return " ".join(text.removeprefix(BYTE_ORDER_MARK).split())


def lines(text: str) -> int:
    """Count the lines that say something."""
    return sum(bool(line.strip()) for line in text.splitlines())


def read_metadata(file: Path, problems: list[Problem]) -> Metadata:
    """Read a `metadata.jsonl` or `metadata.csv`: `file_name`, from its own folder, and `text` per image.

    A caption is in the column `text`, else `caption`, else `prompt`; an image's first row counts.

    Source: Hugging Face datasets, ImageFolder; diffusers, train_text_to_image_lora.py, `--caption_column`.
    """
    captions: dict[Path, str] = {}
    repeated: list[Path] = []
    columns: set[str] = set()
    nameless: list[str] = []
    where = paths.short(file)
    for number, row in _rows(file, problems):
        columns |= row.keys()
        name, column = row.get("file_name"), next((name for name in _COLUMNS if row.get(name)), None)
        if row and not isinstance(name, str):
            nameless.append(f"line {number}")
        if not isinstance(name, str) or column is None:
            continue
        text = row[column]
        if not isinstance(text, str) or not _is_text(text):
            problems.append(Problem(f"{where}:{number}", f"{column} must be text", "mend the row"))
            continue
        path = Path(os.path.normpath(file.parent / name.replace("\\", "/")))
        if captions.setdefault(path, text) != text:
            repeated.append(path)
    unread = ""
    if columns and not captions:
        known = ", ".join(sorted(map(str, columns))[:5])
        unread = f"{where} is not read: its rows must have file_name and text, got {known}"
    elif nameless:
        unread = f"{where} has rows without a file_name, which are not read: {some(nameless)}"
    return Metadata(file=file, captions=captions, repeated=tuple(repeated), unread=unread)


def among(table: Metadata, images: Mapping[Path, Path]) -> Metadata:
    """Return the table with images called as their files are, whose accented letters may be taken apart.

    `images` are files by their own names, and by those with whole letters.
    """
    captions: dict[Path, str] = {}
    for path, text in table.captions.items():
        captions.setdefault(images.get(path) or images.get(paths.whole(path), path), text)
    return dataclasses.replace(table, captions=captions)


def _rows(file: Path, problems: list[Problem]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Return rows with the numbers of their lines; one that cannot be read is a problem."""
    where = paths.short(file)
    number = 0
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            if file.suffix == ".csv":
                table = csv.DictReader(stream)
                for row in table:
                    number = table.line_num
                    yield number, {key: value for key, value in row.items() if key is not None}
                return
            for number, line in enumerate(stream, 1):
                row = json.loads(line) if line.strip() else {}
                if not isinstance(row, dict):
                    raise ValueError("not an object")
                yield number, row
    except (csv.Error, ValueError, RecursionError, OSError) as error:  # no UTF-8, no JSON: ValueErrors
        message = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        problems.append(Problem(f"{where}:{max(1, number)}", message, "mend it, or move it away"))


def _is_text(text: str) -> bool:
    return not has_control_characters(text.replace("\r", "\n"))
