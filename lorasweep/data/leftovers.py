"""Say what of a dataset folder is not used, or not as its owner may think: a sentence per kind.

Takes what is used and everything that is there. Decides nothing; `folder` does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasweep.core import paths
from lorasweep.core.findings import Finding
from lorasweep.core.printable import on_one_line, some
from lorasweep.data import caption_files, mending
from lorasweep.data.caption_files import BYTE_ORDER_MARK, Metadata, lines, one_line
from lorasweep.data.tree import CAPTION_SUFFIXES, File, Folder, Tree, is_image, is_unread, mask_beside

# Latents that kohya's trainers left beside the images; what the images of a drawn dataset show.
_QUIET = re.compile(r".*\.npz|world\.json", re.IGNORECASE)
_KOHYAS_METADATA = re.compile(r"meta(_\w+|data)\.json", re.IGNORECASE)
_KOHYAS_OUTPUT = ("log", "logs", "model", "models")  # beside a project's img/: what its trainer writes


@dataclass(frozen=True, kw_only=True)
class Used:
    """What of a dataset is used."""

    root: Path  # of the dataset
    concepts: Sequence[Path]  # folders whose own images are trained on; the root alone, of a plain dataset
    images: Mapping[str, Path]  # by where they really lie, sorted by path
    texts: Mapping[Path, str]  # captions by image, as written
    caption_files: Sequence[Path]  # that were read
    masks: Sequence[Path]  # beside the images
    metadata: Sequence[Metadata]  # tables of captions that were found; of two that name an image, the first counts
    extension: str  # of caption files

    @property
    def is_plain(self) -> bool:
        """Whether there are no folders with repeats inside the root."""
        return list(self.concepts) == [self.root]

    def names(self, paths: Iterable[Path]) -> str:
        """Name up to three paths from the root, and how many more there are."""
        return some(self.places(paths))

    def places(self, paths: Iterable[Path]) -> list[str]:
        """Return paths from the root."""
        return [on_one_line(path.relative_to(self.root).as_posix()) for path in paths]


def find(used: Used, folders: Sequence[Folder], tree: Tree) -> Iterator[str]:
    """Find what is worth a warning; `folders` are all of the dataset's but those of regularization images."""
    files = [file for folder in folders for file in folder.files]
    # Of several ways to a file, the one without a link; none where it is used.
    once = {file.real: file.path for file in sorted(files, key=lambda file: not file.linked)}
    read = {*used.caption_files, *used.masks, *(table.file for table in used.metadata)}
    unused = sorted(path for real, path in once.items() if real not in used.images and path not in read)
    yield from _folders(used, [path for path in unused if is_image(path)])
    yield from _files(used, folders, unused)
    yield from _links(used, tree, files)
    yield from _captions(used)
    yield from _tables(used)


def other_captions(used: Used, folders: Sequence[Folder]) -> list[Path]:
    """List text files with other suffixes than the captions', beside images that have no caption."""
    without = {paths.whole(path.with_suffix("")) for path in used.images.values() if path not in used.texts}
    if not without:
        return []
    return [
        file.path
        for folder in folders
        for file in folder.files
        if file.path.suffix.lower() in CAPTION_SUFFIXES and paths.whole(file.path.with_suffix("")) in without
    ]


def _folders(used: Used, images: Sequence[Path]) -> Iterator[str]:
    """List folders whose images are left out, or whose name may have been meant otherwise."""
    counts = Counter(path.parent for path in images)
    if loose := counts.pop(used.root, 0):
        yield f"left out, since there are folders with repeats: {_count(loose)} directly in {used.root.name}"
    written = [path for path in counts if _is_output(used, path)]
    inner = [path for path in counts if path not in written and any(above in used.concepts for above in path.parents)]
    nameless = [path for path in counts if path not in written and path not in inner]
    if written:
        yield f"left out, as what a trainer wrote: {_counted(used, written, counts)}"
    if inner:
        whose = "a dataset without repeats" if used.is_plain else "a concept's folder"
        yield f"left out, in folders inside {whose}: {_counted(used, inner, counts)}; move the images up"
    if nameless:
        name = re.sub(r"^[\d\W_]+", "", nameless[0].name) or "name"
        yield (
            f"left out, in folders whose name has no repeats: {_counted(used, nameless, counts)}; "
            f"e.g. `10_{name}` would train its images 10 times an epoch"
        )
    full = {path.parent for path in used.images.values()}
    for path in () if used.is_plain else used.concepts:
        if path not in full:
            yield f"{path.name} has no images"
        elif path.name.isdigit():
            yield f"{path.name} is read as {path.name} repeats and no class word, as in kohya's trainers"


def _counted(used: Used, folders: Sequence[Path], counts: Mapping[Path, int]) -> str:
    shown = [f"{path.relative_to(used.root).as_posix()} ({_count(counts[path])})" for path in folders]
    return some(shown)


def _count(images: int) -> str:
    return f"{images} images" if images > 1 else "1 image"


def _files(used: Used, folders: Sequence[Folder], unused: Sequence[Path]) -> Iterator[str]:
    """List files that are neither read nor anybody's leftovers."""
    told_elsewhere = set(other_captions(used, folders))
    files = [file.path for folder in folders for file in folder.files] if unused else []
    with_image = {paths.whole(path.with_suffix("")) for path in files if is_image(path) or is_unread(path)}
    trained = {paths.whole(path.with_suffix("")) for path in used.images.values()} if unused else set()
    beside = {mask_beside(path) for path in used.images.values()} if unused else set()
    unread, astray, tables, masks, others = [], [], [], [], []
    for path in unused:
        if is_image(path) or path in told_elsewhere or _QUIET.fullmatch(path.name) or _is_output(used, path):
            continue
        if is_unread(path):
            unread.append(path)
        elif path in beside:
            masks.append(path)
        elif _KOHYAS_METADATA.fullmatch(path.name):
            tables.append(path)
        elif not (image := caption_files.by_image([path], used.extension)) or not trained.isdisjoint(image):
            others.append(path)  # also 0.TXT beside 0.txt
        elif with_image.isdisjoint(image):
            astray.append(path)
    if unread:
        yield f"left out, in a format that is not read: {used.names(unread)}; PNG, JPEG, WebP and AVIF are"
    if astray:
        example = next(iter(used.images.values())).with_suffix(used.extension).name
        yield Finding(
            f"captions of no image: {used.names(astray)}; they are named as their image is, e.g. {example}",
            level="must",
            places=used.places(astray),
            command=_named_anew(used, astray),
        )
    if tables:
        yield f"kohya's metadata are not read: {used.names(tables)}; captions are files beside the images"
    if masks:
        yield f"masks that are not used: {used.names(masks)}; dataset.masks=beside trains by them"
    if others:
        yield f"not used: {used.names(others)}"


def _named_anew(used: Used, astray: Sequence[Path]) -> str:
    """Rename `0.png.txt` to `0.txt`; what is named after no image at all is set aside."""
    renamed = {path: Path(path.stem).with_suffix(used.extension) for path in astray if is_image(Path(path.stem))}
    if not renamed:
        return mending.aside(used.root, astray)
    return mending.renamed(used.root, {path: path.with_name(str(name)) for path, name in renamed.items()})


def _is_output(used: Used, path: Path) -> bool:
    """Tell whether a file was written by kohya's GUI into the project of which `img` is trained on."""
    first = path.relative_to(used.root).parts[0].lower()
    images = used.root / "img"
    return first in _KOHYAS_OUTPUT and any(images in concept.parents for concept in used.concepts)


def _links(used: Used, tree: Tree, files: Sequence[File]) -> Iterator[str]:
    if tree.dangling:
        yield f"no files (links that lead nowhere, pipes, devices): {used.names(tree.dangling)}"
    if tree.loops:
        yield f"links that lead back to a folder they are in are not followed: {used.names(tree.loops)}"
    twice = [file.path for file in files if used.images.get(file.real, file.path) != file.path]
    if twice:
        yield f"images that links bring a second time count once: {used.names(twice)}"


def _captions(used: Used) -> Iterator[str]:
    empty = [path for path, text in used.texts.items() if not text.strip(f"{BYTE_ORDER_MARK} \t\r\n,")]
    if empty:
        yield Finding(
            f"captions that say nothing: {used.names(empty)}; these images are trained without words",
            level="must",
            places=used.places(empty),
            command=mending.aside(used.root, empty, extension=used.extension),
        )
    marked = [path for path, text in used.texts.items() if text.startswith(BYTE_ORDER_MARK)]
    several = [path for path, text in used.texts.items() if lines(text) > 1]
    for of, found, done in (
        (
            "with a byte order mark",
            marked,
            "it is left out here, where other trainers take it for a part of the first tag",
        ),
        ("of several lines", several, "the lines are joined, where kohya's trainers read the first alone"),
    ):
        if found:
            said = f"captions {of}: {used.names(found)}; {done}"
            yield Finding(said, level="should", places=used.places(found), command=mending.rewrite(used.root))


def _tables(used: Used) -> Iterator[str]:
    """Return what tables of captions say of no image, or in vain."""
    images = set(used.images.values())
    for table in used.metadata:
        name = used.names([table.file])
        if table.unread:
            yield table.unread
        if table.repeated:
            shown = some([path.name for path in table.repeated])
            yield f"{name} has several captions of one image, of which the first counts: {shown}"
        unknown = [path for path in table.captions if path not in images]
        if unknown:
            shown = some([path.name for path in unknown])
            yield f"{name} has rows of no image that is trained on: {shown}"
        other = [
            path
            for path, text in table.captions.items()
            if path in images and one_line(used.texts[path]) != one_line(text)
        ]
        if other:
            yield f"{name} says otherwise than the captions that are used: {used.names(other)}"
