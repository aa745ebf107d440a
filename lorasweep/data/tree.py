"""Walk a dataset's folders: whatever is visible, at any depth, links followed, loops cut.

Takes a path, gives back folders with their files. Of images and captions it knows what the end of a name says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lorasweep.core.errors import DatasetError, Problem

MOST_FOLDERS = 10_000  # more is a whole disk, or links that lead round and round
# What systems and programs leave behind beside anything, no part of a dataset. Hidden files are so too.
_LEFTOVERS = frozenset({"__macosx", "__pycache__", "@eadir", "thumbs.db", "desktop.ini", "ehthumbs.db"})
# By content they are PNG, JPEG, WebP, AVIF, BMP, GIF or TIFF, whatever their suffix.
IMAGE_SUFFIXES = frozenset(
    ".png .apng .jpg .jpeg .jpe .jfif .jif .pjpeg .pjp .mpo .webp .avif .avifs .bmp .gif .tif .tiff".split()
)
# Pictures to people, but not to us: phones' and cameras' formats, those of editors, and films.
UNREAD_SUFFIXES = frozenset(
    ".heic .heif .hif .jxl .jp2 .j2k .psd .psb .xcf .kra .clip .ora .svg .tga .dds .dib .ico .qoi .exr "
    ".hdr .ppm .pgm .pbm .pnm .dng .cr2 .cr3 .nef .arw .orf .raf .rw2 .mp4 .webm .mov .mkv .avi".split()
)
CAPTION_SUFFIXES = (".txt", ".caption", ".captions", ".tags")
_MASKS = ("-masklabel", "-condlabel")  # OneTrainer's masks, beside their images
OWN_MASKS = ("alpha", "beside")  # words of `dataset.masks`; all others are folders


@dataclass(frozen=True)
class File:
    """A file as it is reached from the root."""

    path: Path  # absolute, under the root
    real: str  # where its content lies: equal for two ways to the same file
    linked: bool  # whether a link under the root is on the way to it


@dataclass(frozen=True)
class Folder:
    """A folder as it is reached from the root; see `File`. Its own files are sorted by path."""

    path: Path
    real: str
    linked: bool
    files: tuple[File, ...]


@dataclass(frozen=True)
class Tree:
    """All folders, sorted by path with the root first; links that lead back; links to nowhere, pipes and devices."""

    folders: tuple[Folder, ...]
    dangling: tuple[Path, ...]
    loops: tuple[Path, ...]


def walk(root: Path) -> Tree:
    """List everything under a folder but what is hidden or a program's leftover.

    Raises:
        DatasetError: a folder cannot be listed, or there are more than 10,000.
    """
    root = root.absolute()
    folders: list[Folder] = []
    dangling: dict[str, Path] = {}  # by where the link itself lies
    loops: dict[str, Path] = {}
    # With each folder go the real folders that it lies in: a link to one of those leads round.
    real_root = os.path.realpath(root)
    waiting = [(root, real_root, False, frozenset(map(str, (real_root, *Path(real_root).parents))))]
    while waiting:
        path, real, linked, above = waiting.pop()
        files: list[File] = []
        for entry in _visible(path):
            is_link, there, inside = entry.is_symlink(), Path(entry.path), f"{real}{os.sep}{entry.name}"
            is_folder = os.path.isdir(entry.path) if is_link else entry.is_dir()
            beside = inside
            if is_folder or is_link:
                inside = os.path.realpath(entry.path)
            is_linked = linked or inside != beside
            if is_folder and inside in above:
                loops[beside] = loops.get(beside, there) if linked else there
            elif is_folder:
                waiting.append((there, inside, is_linked, above | {inside}))
            elif os.path.isfile(entry.path) if is_link else entry.is_file():
                files.append(File(there, inside, is_linked))
            else:
                dangling[beside] = dangling.get(beside, there) if linked else there
        folders.append(Folder(path, real, linked, tuple(sorted(files, key=lambda file: file.path.parts))))
        if len(folders) + len(waiting) > MOST_FOLDERS:
            message = f"must have at most {MOST_FOLDERS} folders in it"
            raise DatasetError(Problem(str(root), message, "give the folder of the dataset itself"))
    return Tree(
        folders=tuple(sorted(folders, key=lambda folder: folder.path.parts)),
        dangling=tuple(sorted(dangling.values())),
        loops=tuple(sorted(loops.values())),
    )


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name.lower() not in _LEFTOVERS:
                    yield entry
    except OSError as error:
        raise DatasetError(Problem(str(folder), f"cannot be listed: {error.strerror}")) from error


def is_image(path: Path) -> bool:
    """Tell whether a file's name says that it is a picture that is read; a mask is not one."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.stem.endswith(_MASKS)


def mask_beside(image: Path) -> Path:
    """Return where OneTrainer has an image's mask, whether it is there or not."""
    return image.with_name(f"{image.stem}{_MASKS[0]}.png")


def is_unread(path: Path) -> bool:
    """Tell whether a file's name says that it is a picture in a format that is not read."""
    return path.suffix.lower() in UNREAD_SUFFIXES
