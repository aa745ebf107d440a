"""Find the images of a dataset folder: kohya's `10_zkw` folders, a plain folder, or a kohya GUI's project.

Takes a path, gives back `FoundImage`s and warnings, or raises one DatasetError with every problem. Whatever
is visible under the path is used or named. Knows nothing about pixels: `images` opens what is found here.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasweep.core import paths
from lorasweep.core.errors import DatasetError, Problem
from lorasweep.core.printable import has_control_characters, some
from lorasweep.data import caption_files, leftovers
from lorasweep.data.caption_files import Metadata, one_line
from lorasweep.data.leftovers import Used
from lorasweep.data.tree import IMAGE_SUFFIXES, OWN_MASKS, File, Folder, is_image, is_unread, mask_beside, walk

MOST_REPEATS = 10_000  # beyond, the number is a date or a count
_KOHYA_NAME = re.compile(r"(\d+)(?:_(.*))?")
_REGULARIZATION = re.compile(
    r"(regs?|regulari[sz]ation|class|prior)([ _-]?(images?|imgs?|data|dir|folder))*", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """One image file."""

    path: Path  # absolute
    concept: str  # name of its folder when that says repeats (`10_zkw outfit1`), else ""
    class_tokens: str  # the words of that name (`zkw outfit1`), else ""
    repeats: int  # the number of that name, else 1
    caption: str | None  # what its caption file says, else the dataset's metadata, on one line; None without either

    @property
    def text(self) -> str:
        """The caption as written; as kohya's trainers do, the words of the folder's name where there is none."""
        return self.class_tokens if self.caption is None else self.caption

    @property
    def short(self) -> str:
        """Its name as a person would look it up."""
        return paths.short(self.path)


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """What a dataset folder holds."""

    images: tuple[FoundImage, ...]  # at least one, sorted by path
    other_extension: str | None  # of text files beside images without a caption, when there are any: `.caption`
    regularization: dict[Path, int]  # folders named `reg` or alike, with how many images are in each; none of `images`
    warnings: tuple[str, ...]  # what is there and not used, and what is used otherwise than its owner may think


@dataclass(frozen=True)
class _Concept:
    """What the name of a folder says of its images; see `FoundImage`."""

    concept: str
    class_tokens: str
    repeats: int


_PLAIN = _Concept("", "", 1)


def find_images(
    root: Path,
    *,
    caption_extension: str,
    key: str = "dataset.path",
    encoding: str = "utf-8",
    masks: str | None = None,
    unfit: Callable[[Iterable[Path]], Iterable[Problem]] = lambda images: (),
) -> ImageFolder:
    """Find images and captions.

    An image's caption is in the file beside it, else in a `metadata.jsonl` or `metadata.csv` of the dataset.
    Two ways to one file (links) count once.

    Args:
        root: holds `10_zkw` folders at any depth, but not one inside another, or is one, or is a plain folder
            of images. Hidden files are left out; links are followed.
        caption_extension: of the caption file beside each image, e.g. `.txt`.
        key: of the recipe, that names `root`; for the problems.
        encoding: of captions that are not UTF-8.
        masks: `dataset.masks`; what they lie in is no part of the dataset.
        unfit: what is wrong with the images themselves; asked where something is raised, to be all of it.

    Raises:
        DatasetError: no such folder, the dataset in that of its masks; no images, captions that are not UTF-8.

    Source: kohya-ss/sd-scripts, library/config_util.py, generate_dreambooth_subsets_config_by_subdirs, at
    48d368fa: `5` and `5_` are 5 repeats without class tokens. Departure: there, other folders are passed over
    with a line in the log, and only those directly in the dataset are looked at.
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "no such folder"
        raise DatasetError(Problem(str(root), what, f"looked at {root.absolute()}; override: {key}=..."))
    root = root.absolute()
    tree = walk(root)
    problems: list[Problem] = []
    apart = os.path.realpath(os.path.expanduser(masks)) if masks and masks not in OWN_MASKS else None
    if apart and Path(tree.folders[0].real).is_relative_to(apart):
        message = f"must be a folder of masks alone, and the dataset is in it: {masks!r}"
        raise DatasetError(Problem("dataset.masks", message, "dataset.masks=beside, or put them in a folder of theirs"))
    folders = [
        folder
        for folder in tree.folders
        if _regularization_above(folder.path, root) is None and not (apart and Path(folder.real).is_relative_to(apart))
    ]
    every = [file.path for folder in folders for file in folder.files]
    tables = [file for file in every if file.name in caption_files.METADATA_NAMES]
    pictures = [file for file in every if is_image(file)] if tables else []
    called = {**{paths.whole(file): file for file in pictures}, **{file: file for file in pictures}}
    metadata = [caption_files.among(caption_files.read_metadata(file, problems), called) for file in tables]
    concepts = _concepts(root, folders)
    images = _once(_images_of(root, folders, concepts, metadata))
    named = caption_files.by_image(every, caption_extension)
    written = {path: file for path in images.values() if (file := caption_files.beside(path, named))}
    captions: dict[Path, str | None] = {}
    for table in reversed(metadata):  # of two that name an image, the first counts
        captions |= table.captions
    captions |= {path: caption_files.read_caption(file, problems, encoding) for path, file in written.items()}
    problems += _badly_named(images.values(), concepts)
    if not images and not problems:
        problems.append(_nothing_found(root, key, tree.folders))
    if problems:
        raise DatasetError([*problems, *unfit(images.values())], subject=f"the dataset {root}")
    texts = {path: text for path in images.values() if (text := captions.get(path)) is not None}
    used = Used(
        root=root,
        concepts=tuple(concepts),
        images=images,
        texts=texts,
        caption_files=tuple(written.values()),
        masks=tuple(map(mask_beside, images.values())) if masks == "beside" else (),
        metadata=tuple(metadata),
        extension=caption_extension,
    )
    return ImageFolder(
        images=tuple(
            FoundImage(
                path=path,
                caption=one_line(texts[path]) if path in texts else None,
                **vars(concepts.get(path.parent, _PLAIN)),
            )
            for path in images.values()
        ),
        other_extension=next((path.suffix for path in leftovers.other_captions(used, folders)), None),
        regularization=_regularization(root, tree.folders),
        warnings=tuple(leftovers.find(used, folders, tree)),
    )


def _concepts(root: Path, folders: Sequence[Folder]) -> dict[Path, _Concept]:
    """Return the folders whose images are trained on; none lies inside another, nor is another by a link."""
    found: dict[Path, _Concept] = {}
    inside: set[Path] = set()  # real folders of concepts
    for folder in sorted(folders, key=lambda folder: (folder.linked, folder.path.parts)):
        match, real = _KOHYA_NAME.fullmatch(folder.path.name), Path(folder.real)
        if match and folder.path != root and inside.isdisjoint([real, *real.parents]):
            found[folder.path] = _Concept(folder.path.name, _words(match), int(match[1]))
            inside.add(real)
    if any(is_image(file.path) for folder in folders if folder.path in found for file in folder.files):
        return found
    # The dataset's own name may be a date or a count, where a folder's inside it was chosen for kohya.
    match = _KOHYA_NAME.fullmatch(root.name)
    if match and match[2] and int(match[1]) <= MOST_REPEATS:
        return {root: _Concept(root.name, _words(match), int(match[1]))}
    return {root: _PLAIN}


def _words(name: re.Match[str]) -> str:
    """Return the words of a folder's name with its letters whole, as captions have them: macOS takes them apart."""
    return unicodedata.normalize("NFC", name[2] or "").strip()


def _images_of(
    root: Path, folders: Sequence[Folder], concepts: Collection[Path], metadata: Sequence[Metadata]
) -> list[File]:
    """Return the images in the concepts' own folders; of a plain dataset, also those that its metadata name."""
    listed = {path for table in metadata for path in table.captions} if root in concepts else set()
    return [
        file
        for folder in folders
        for file in folder.files
        if is_image(file.path) and (folder.path in concepts or file.path in listed)
    ]


def _once(files: Sequence[File]) -> dict[str, Path]:
    """Return one path to each file by where it really lies, sorted by path; the one without a link on it is kept."""
    first: dict[str, Path] = {}
    for file in sorted(files, key=lambda file: (file.linked, file.path.parts)):
        first.setdefault(file.real, file.path)
    return dict(sorted(first.items(), key=lambda item: item[1].parts))


def _badly_named(images: Iterable[Path], concepts: Mapping[Path, _Concept]) -> Iterator[Problem]:
    for folder, concept in concepts.items():
        if not 1 <= concept.repeats <= MOST_REPEATS:
            rule = f"repeats must be from 1 to {MOST_REPEATS}, got {concept.repeats}"
            yield Problem(str(folder), rule, "rename the folder, or move it away")
    for path in images:
        short = paths.short(path)
        if has_control_characters(short):
            yield Problem(short, "its name must have no control characters", "rename it")


def _regularization_above(folder: Path, root: Path) -> Path | None:
    """Return the outermost folder between here and the root that is named as one of regularization images."""
    inside = folder.relative_to(root).parts
    for depth, name in enumerate(inside, 1):
        if _REGULARIZATION.fullmatch(name):
            return root.joinpath(*inside[:depth])
    return None


def _regularization(root: Path, folders: Sequence[Folder]) -> dict[Path, int]:
    counts: dict[Path, int] = {}
    for folder in folders:
        images = sum(is_image(file.path) for file in folder.files)
        if images and (top := _regularization_above(folder.path, root)):
            counts[top] = counts.get(top, 0) + images
    return counts


def _nothing_found(root: Path, key: str, folders: Sequence[Folder]) -> Problem:
    inside = [
        str(folder.path.relative_to(root)) for folder in folders if any(is_image(file.path) for file in folder.files)
    ]
    if inside:
        first = Path(inside[0])
        advice = f"give {key}={root / first}"
        if not _regularization_above(root / first, root):
            renamed = first.with_name(f"10_{first.name}")
            advice = f"rename {str(first)!r} to {str(renamed)!r} (10 repeats), or {advice}"
        return Problem(str(root), f"has no images itself; its folders do: {', '.join(inside[:5])}", advice)
    unread = [file.path.name for folder in folders for file in folder.files if is_unread(file.path)]
    if unread:
        what = f"has no images in a format that is read, only {some(unread)}"
        return Problem(str(root), what, "save them as PNG, JPEG, WebP or AVIF")
    return Problem(str(root), "has no images", f"looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
