"""Find the images of a dataset folder: kohya's `10_zkw` folders, or a plain folder.

Takes a path, gives back `FoundImage`s and warnings, or raises one DatasetError with every problem. Knows
nothing about pixels: `images` opens what is found here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lorasweep.errors import DatasetError, Problem
from lorasweep.printable import has_control_characters

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
# Pictures to people, but not to us: phones' and cameras' formats, and those of editors.
_UNREAD_SUFFIXES = frozenset(
    ".heic .heif .avif .jxl .jp2 .psd .xcf .kra .svg .tga .dng .cr2 .nef .arw .mp4 .webm".split()
)
_KOHYA_NAME = re.compile(r"(\d+)_(.+)")
_DEEPEST = 3  # levels under the dataset folder in which `10_zkw` folders are looked for


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """One image file.

    Attributes:
        path: absolute.
        concept: name of its folder when that says repeats (`10_zkw outfit1`), else "".
        class_tokens: the words of that name (`zkw outfit1`), else "".
        repeats: the number of that name, else 1.
        caption: text of the caption file on one line; None when there is no such file.
    """

    path: Path
    concept: str
    class_tokens: str
    repeats: int
    caption: str | None


def find_images(
    root: Path, *, caption_extension: str, key: str = "dataset.path"
) -> tuple[list[FoundImage], list[str]]:
    """Find images and captions, sorted by path.

    Args:
        root: holds `10_zkw` folders (also one level down, as in `dataset/img/10_zkw`), or is one, or is a
            plain folder of images. Hidden files are left out; links are followed.
        caption_extension: of the caption file beside each image, e.g. `.txt`.
        key: of the recipe, that names `root`; for the problems.

    Returns:
        The images, at least one, and warnings.

    Raises:
        DatasetError: no such folder, no images, captions that are not UTF-8: all at once.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "no such folder"
        raise DatasetError(Problem(str(root), what, f"looked at {root.absolute()}; override: {key}=..."))
    folders, warnings = _concept_folders(root)
    problems: list[Problem] = []
    found: list[FoundImage] = []
    for folder, repeats, class_tokens in folders:
        concept = folder.name if class_tokens else ""
        if repeats < 1:
            problems.append(
                Problem(str(folder), "repeats must be >= 1, got 0", "rename the folder, or move it away")
            )
        files = _image_files(folder)
        if not files and class_tokens:
            warnings.append(f"{folder.name} has no images")
        warnings += _left_out(folder, files, caption_extension)
        for path in files:
            if has_control_characters(f"{folder.name}{path.name}"):
                problems.append(
                    Problem(_short(path), "its name must have no control characters", "rename it")
                )
            caption = read_caption(path.with_suffix(caption_extension), problems)
            found.append(
                FoundImage(
                    path=path, concept=concept, class_tokens=class_tokens, repeats=repeats, caption=caption
                )
            )
    if not found and not problems:
        problems.append(_nothing_found(root, key))
    if problems:
        raise DatasetError(problems, subject=f"the dataset {root}")
    return found, warnings


def _concept_folders(root: Path) -> tuple[list[tuple[Path, int, str]], list[str]]:
    """The folders to read, each with its repeats and class tokens."""
    root = root.absolute()
    kohya = list(_kohya_folders(root, _DEEPEST))
    if kohya:
        loose = len(_image_files(root))
        ignored = f"{loose} images directly in {root.name} are left out, since it has folders with repeats"
        return kohya, [ignored] if loose else []
    match = _KOHYA_NAME.fullmatch(root.name)
    return [(root, int(match[1]), match[2].strip()) if match else (root, 1, "")], []


def _kohya_folders(root: Path, depth: int) -> Iterator[tuple[Path, int, str]]:
    for folder in sorted(item for item in root.iterdir() if item.is_dir() and not item.name.startswith(".")):
        match = _KOHYA_NAME.fullmatch(folder.name)
        if match:
            yield folder, int(match[1]), match[2].strip()
        elif depth > 1:
            yield from _kohya_folders(folder, depth - 1)


def _image_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    )


def _left_out(folder: Path, images: list[Path], caption_extension: str) -> Iterator[str]:
    """Say which files of a folder are not used, though they look as if they should be."""
    there = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    unread = [path.name for path in there if path.suffix.lower() in _UNREAD_SUFFIXES]
    if unread:
        yield f"left out, in a format that is not read: {some(unread)}; PNG, JPEG and WebP are"
    captioned = {image.with_suffix(caption_extension) for image in images}
    captions = [path for path in there if path.name.endswith(caption_extension)]
    astray = [path.name for path in captions if path not in captioned]
    if astray:
        example = images[0].with_suffix(caption_extension).name if images else f"NAME{caption_extension}"
        yield f"captions of no image: {some(astray)}; they are named as their image is, e.g. {example}"


def other_captions(images: Iterable[FoundImage], caption_extension: str) -> str | None:
    """The suffix of the text files that are there instead of those with `caption_extension`, if any."""
    for suffix in (".txt", ".caption", ".captions", ".tags"):
        if suffix != caption_extension and any(
            os.path.isfile(image.path.with_suffix(suffix)) for image in images
        ):
            return suffix
    return None


def some(names: list[str]) -> str:
    """Up to three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def read_caption(path: Path, problems: list[Problem]) -> str | None:
    """Read a caption file as one line; None without one, or when it is unfit, which is a problem."""
    if not os.path.isfile(path):  # pathlib's raises when the image's name is as long as names can be
        return None
    # One line, whatever the editor did: line breaks are not a separator of tags anywhere else.
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        message = f"caption must be UTF-8, got byte 0x{byte:02x} at {error.start}"
        problems.append(Problem(_short(path), message, "save it again as UTF-8"))
    except OSError as error:
        problems.append(Problem(_short(path), f"caption cannot be read: {error.strerror}"))
    else:
        if not has_control_characters(text.replace("\r", "\n")):
            return " ".join(text.split())
        problems.append(
            Problem(_short(path), "caption must be text, it has control characters", "save it anew")
        )
    return None


def _nothing_found(root: Path, key: str) -> Problem:
    inside = sorted(
        f.name for f in root.iterdir() if f.is_dir() and not f.name.startswith(".") and _image_files(f)
    )
    if inside:
        advice = f"rename {inside[0]!r} to '10_{inside[0]}' (10 repeats), or give {key}={root / inside[0]}"
        return Problem(str(root), f"has no images itself; its folders do: {', '.join(inside[:5])}", advice)
    return Problem(str(root), "has no images", f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
