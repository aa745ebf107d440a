"""The images of a recipe: found or drawn, inspected, captioned, split, in buckets.

    FoundImage -> Row: + ImageFacts, + Assignment -> PlannedImage: + caption, + split

Takes a recipe, returns a `Dataset` of planned images, or raises with every problem. Knows nothing about
steps.
"""

from __future__ import annotations

import dataclasses
import functools
import glob
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lorasweep.core import once, paths, registry
from lorasweep.core.errors import DatasetError, InputError, Problem
from lorasweep.core.findings import Finding
from lorasweep.core.hydra_text import write_text
from lorasweep.core.printable import command, some
from lorasweep.core.records import DatasetOptions, PlannedImage, Recipe
from lorasweep.core.seeds import derive
from lorasweep.data import captions, mending, near_duplicates, split
from lorasweep.data.assign import Assignment, Row, assign, assign_without_upscale
from lorasweep.data.folder import FoundImage, ImageFolder, find_images
from lorasweep.data.images import ImageFacts
from lorasweep.plan import caption_findings, image_findings, masks, trigger
from lorasweep.plan.dollhouse_dataset import draw_dataset
from lorasweep.plan.image_facts_cache import inspect_all
from lorasweep.plan.lora_files import has_files


@dataclass(frozen=True)
class Dataset:
    """What a recipe trains on and is judged by."""

    images: tuple[PlannedImage, ...]  # sorted by path
    triggers: tuple[str, ...]  # the words that call the subjects, that of most images first
    warnings: tuple[str, ...]  # for people

    @property
    def trigger(self) -> str | None:
        """The trigger of most images, when there is one."""
        return next(iter(self.triggers), None)


def _decides(recipe: Recipe) -> str:
    """Return all of a recipe that `read_dataset` may look at."""
    keys = ("base", "dataset", "captions", "buckets", "regularization", "train")
    return repr([has_files(recipe), *(getattr(recipe, key) for key in keys)])


@once.per(_decides)
def read_dataset(recipe: Recipe) -> Dataset:
    """Read, or draw and read, the images of a recipe; raises InputError with every problem found."""
    options = recipe.dataset
    if options.is_empty:
        return _no_images(recipe)
    root = _root(recipe)
    folder, apart = _folders(recipe, root)
    kept = apart.images if apart else ()
    if options.drawn and recipe.captions.trigger is not None:
        folder = dataclasses.replace(folder, images=tuple(_without_word(image, recipe) for image in folder.images))
    rows, problems = make_rows(recipe, [*folder.images, *kept])
    if problems:
        raise DatasetError(problems, subject=f"the dataset {root}")
    groups = near_duplicates.groups([row.facts.signature for row in rows])
    if kept:
        held_out = frozenset(range(len(folder.images), len(rows)))
    elif options.holdout_files:
        held_out = _named(options.holdout_files, root, folder.images)
    else:
        held_out = split.held_out(
            [row.facts.sha256 for row in rows],
            groups,
            share=options.holdout,
            seed=options.holdout_seed,
            concepts=[row.found.concept for row in rows],
        )
    triggers = trigger.find_triggers(recipe, folder.images)
    triggers |= {each.class_tokens: next(iter(triggers.values())) for each in kept if each.class_tokens not in triggers}
    decoupled = _decoupled(recipe, rows, held_out)
    images = tuple(
        row.planned(
            concept=row.found.concept,
            caption=captions.planned(
                row.found.text, triggers[row.found.class_tokens], recipe.captions, decoupled=index in decoupled
            ),
            split="held_out" if index in held_out else "train",
            repeats=options.repeats or row.found.repeats,
        )
        for index, row in enumerate(rows)
    )
    images, masked = masks.put(options, root, images)
    called = trigger.by_images(folder.images, triggers)
    notes = [
        *folder.warnings,
        *unused_parts(rows, recipe.captions.extension),
        *trigger.notes(recipe, folder.images, triggers),
        *_unused_folders(recipe, folder),
        *_captions(recipe, folder),
        *masked,
        *_held_out(recipe, images),
        *(_of_kept_apart(apart) if apart else ()),
        *_kept_copies(options, root, rows, groups, held_out),
    ]
    if options.path is not None:
        count = len(folder.images)  # what was kept apart behind them is no part of what is trained on
        own = [[index for index in group if index < count] for group in groups]
        notes += image_findings.find(recipe, rows[:count], [group for group in own if group], images[:count])
        notes += caption_findings.find(recipe, images[:count], called)
    return Dataset(images=images, triggers=called, warnings=tuple(notes))


def written_captions(recipe: Recipe) -> dict[str, str | None]:
    """Return captions as their owner wrote them, by the image's path; None where there is none."""
    found = find_images(_root(recipe), caption_extension=recipe.captions.extension)
    return {str(image.path): image.caption for image in found.images}


def make_rows(recipe: Recipe, found: Sequence[FoundImage]) -> tuple[list[Row], list[Problem]]:
    """Inspect images and give each that can be used its bucket; and the problems with the others."""
    placed, problems = _placed(recipe, [image.path for image in found])
    return [Row(image, *placed[image.path]) for image in found if image.path in placed], problems


def _placed(recipe: Recipe, images: Iterable[Path]) -> tuple[dict[Path, tuple[ImageFacts, Assignment]], list[Problem]]:
    facts, problems = inspect_all(images)
    try:
        place_in_bucket = _placing(recipe)
    except InputError as error:
        return {}, [*problems, *error.problems]
    placed = {}
    for path, fact in facts.items():
        if (place := place_in_bucket(fact.width_px, fact.height_px)) is None:
            step = recipe.base.bucket_step
            message = f"is {fact.width_px} x {fact.height_px} px, less than one bucket step ({step})"
            problems.append(Problem(paths.short(path), message, "take it out, or buckets.upscale=true"))
        else:
            placed[path] = (fact, place)
    return placed, problems


def unused_parts(rows: Sequence[Row], extension: str) -> Iterator[str]:
    """Say what of image files is not used: frames, and colour profiles that cannot be."""
    if animated := [row.found for row in rows if row.facts.is_animated]:
        places = [image.short for image in animated]
        root = Path(os.path.commonpath([image.path.parent for image in animated]))
        yield Finding(
            f"only the first frame or page is used of {some(places)}",
            places=places,
            command=mending.aside(root, [image.path for image in animated], extension=extension),
        )
    names: dict[str, list[str]] = {}
    for row in rows:
        if row.facts.unused_profile:
            names.setdefault(row.facts.unused_profile, []).append(row.found.short)
    for why, those in names.items():
        yield f"the colour profile of {some(those)} {why}: read as sRGB; save them in sRGB if colours matter"


def _no_images(recipe: Recipe) -> Dataset:
    """Return what files are judged by without images: the trigger, if it is told; raises where one would train."""
    if not has_files(recipe):
        raise DatasetError(Problem("dataset", "there are no images to train on", "dataset.path=FOLDER"))
    given = recipe.captions.trigger
    note = "no images: only drift, burn, diversity and prompt control are measured; dataset.path=FOLDER gives the rest"
    return Dataset(images=(), triggers=(given,) if given else (), warnings=(note,))


def find_readable(recipe: Recipe, root: Path, key: str) -> ImageFolder:
    """Find the images of a folder; where captions are unfit, what is wrong with images is raised with that."""
    extension = recipe.captions.extension
    return find_images(
        root,
        caption_extension=extension,
        key=key,
        masks=recipe.dataset.masks if key == "dataset.path" else None,
        unfit=lambda images: _placed(recipe, images)[1],
    )


def _folders(recipe: Recipe, root: Path) -> tuple[ImageFolder, ImageFolder | None]:
    """Find the images to train on, and those that a person kept apart, if any; raises the problems of both."""
    places = {"dataset.path": root}
    if recipe.dataset.holdout_path is not None:
        places["dataset.holdout_path"] = Path(recipe.dataset.holdout_path).expanduser()
    found: dict[str, ImageFolder] = {}
    problems: list[Problem] = []
    for key, place in places.items():
        try:
            found[key] = find_readable(recipe, place, key)
        except DatasetError as error:
            problems += error.problems
    if problems:
        problems += _placed(recipe, [image.path for folder in found.values() for image in folder.images])[1]
        raise DatasetError(problems, subject=f"the dataset {root}")
    return found["dataset.path"], found.get("dataset.holdout_path")


def _of_kept_apart(folder: ImageFolder) -> Iterator[str]:
    """Return what is worth knowing of the images that a person kept apart."""
    said = [*folder.warnings, *(f"{path.name}/ in it is left out" for path in folder.regularization)]
    if without := [image.short for image in folder.images if image.caption is None]:
        said.append(f"no caption file for {len(without)} of {len(folder.images)} images ({some(without)})")
    yield from (f"dataset.holdout_path: {each}" for each in said)


def _named(names: Sequence[str], root: Path, images: Sequence[FoundImage]) -> frozenset[int]:
    """Find the images that `dataset.holdout_files` names: by name or pattern, with folders and suffix or without.

    Raises DatasetError where a name matches nothing, or nothing is left to train on.
    """
    whole = functools.partial(unicodedata.normalize, "NFC")  # macOS takes letters of names apart
    inside = [PurePosixPath(whole(image.path.relative_to(root.absolute()).as_posix())) for image in images]

    def matched(pattern: str) -> set[int]:
        if (pattern := str(PurePosixPath(whole(pattern)))) == ".":
            return set()
        return {i for i, path in enumerate(inside) if path.match(pattern) or path.with_suffix("").match(pattern)}

    found = {name: matched(glob.escape(name)) or matched(name) for name in names}  # `[a] 1.png` is a name as well
    problems = [
        Problem("dataset.holdout_files", f"{name!r} is no image of {root}", "e.g. 10_zkw/0003.png, or 00*.png")
        for name, named in found.items()
        if not named
    ]
    chosen = frozenset().union(*found.values())
    if len(chosen) == len(images):
        message = f"must leave something to train on, got all {len(images)} images"
        problems.append(Problem("dataset.holdout_files", message, "name fewer"))
    if problems:
        raise DatasetError(problems, subject=f"the dataset {root}")
    return chosen


def _kept_copies(
    options: DatasetOptions, root: Path, rows: Sequence[Row], groups: Sequence[Sequence[int]], held_out: Collection[int]
) -> Iterator[str]:
    """Say which images that a person kept apart are copies of some that are trained on."""
    both = [group for group in groups if any(i in held_out for i in group) and any(i not in held_out for i in group)]
    if copies := [rows[index].found.short for group in both for index in group if index in held_out]:
        key, command = "dataset.holdout_path", ""
        if not options.holdout_path:
            key, twins = "dataset.holdout_files", (rows[i].found.short for g in both for i in g if i not in held_out)
            command = mending.look_again(root, write_text(key, [*options.holdout_files, *twins]))
        yield Finding(
            f"{some(copies)} of {key} are near-duplicates of images that are trained on: what is "
            "measured on them says nothing about unseen ones",
            level="should",
            places=copies,
            command=command,
        )


def _root(recipe: Recipe) -> Path:
    """Return the folder of the images, drawn when the dataset is the dollhouse's."""
    options = recipe.dataset
    masked = options.masks is not None
    return draw_dataset(options.dollhouse, masked=masked) if options.path is None else Path(options.path).expanduser()


def _placing(recipe: Recipe) -> Callable[[int, int], Assignment | None]:
    """Return a function from an image's width and height to where it goes; None where it fits in no bucket."""
    base, options = recipe.base, recipe.buckets.options
    buckets = registry.load("buckets", recipe.buckets.name).build(base, **options)
    if options["upscale"]:
        return lambda width_px, height_px: assign(width_px, height_px, buckets)
    return lambda width_px, height_px: assign_without_upscale(
        width_px, height_px, area_px=base.resolution**2, step_px=base.bucket_step
    )


def _without_word(image: FoundImage, recipe: Recipe) -> FoundImage:
    """Rename a drawn image that another trigger calls: the word that the subject was drawn under goes."""
    word = recipe.dataset.dollhouse.subject
    caption = captions.without_trigger(image.caption or "", word, recipe.captions)
    return dataclasses.replace(image, caption=caption)


def _decoupled(recipe: Recipe, rows: Sequence[Row], held_out: Collection[int]) -> set[int]:
    """Return the share of each concept's training images that do without the trigger: the same in every trial."""
    share, seed = recipe.captions.decouple, recipe.dataset.holdout_seed
    concepts: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if index not in held_out:
            concepts.setdefault(row.found.concept, []).append(index)
    chosen: set[int] = set()
    for members in concepts.values():
        members.sort(key=lambda index: derive(seed, "decouple", rows[index].facts.sha256))
        chosen.update(members[: round(share * len(members))])
    return chosen


def _with_trigger(recipe: Recipe, folder: ImageFolder, *, new_only: bool) -> str:
    """Return the command that puts a trigger into captions: the one that is known, else one to think of."""
    known = trigger.by_images(folder.images, trigger.find_triggers(recipe, folder.images))
    word = next(iter(known), trigger.first_word(folder.images[0].class_tokens) or "WORD")
    keys = (write_text("captions.trigger", word), "captions.add_trigger=true")
    return mending.rewrite(_root(recipe), *keys, new_only=new_only)


def _captions(recipe: Recipe, folder: ImageFolder) -> Iterator[str]:
    """Say which images have no caption file, and what a caption policy does in vain."""
    without = [image for image in folder.images if image.caption is None]
    if without:
        if all(image.class_tokens for image in without):
            instead = "the words of the folder's name"
        elif any(image.class_tokens for image in without):
            instead = "the words of the folder's name, where it has some"
        else:
            instead = "the trigger alone" if recipe.captions.trigger else "an empty caption"
        other = folder.other_extension
        remedy = f"; {other} files are there: captions.extension={other}" if other else ""
        names = some([image.short for image in without])
        yield Finding(
            f"no caption file for {len(without)} of {len(folder.images)} images ({names}): trained with "
            f"{instead}{remedy}",
            level="must",
            places=[image.short for image in without],
            command=_with_trigger(recipe, folder, new_only=True)
            if other is None
            else mending.look_again(_root(recipe), f"captions.extension={other}"),
        )
    for name in captions.unmatched((image.caption or "" for image in folder.images), recipe.captions):
        yield f"captions: {name!r} is to be pruned or replaced, but is in no caption"
    if recipe.captions.decouple > 0 and not recipe.captions.prune:
        yield (
            "captions.decouple takes the trigger out for the tags in captions.prune, and there are none: "
            "those captions only lose the trigger"
        )


def _held_out(recipe: Recipe, images: Sequence[PlannedImage]) -> Iterator[str]:
    """Say where there is too little to judge by."""
    concepts = Counter(image.concept for image in images)
    judged = Counter(image.concept for image in images if image.split == "held_out")
    count = judged.total()
    if has_files(recipe) and not count:
        yield (
            "all images count as trained on, so overfitting is not measured on unseen ones: "
            "dataset.holdout_path=FOLDER, of images that were not"
        )
    elif recipe.dataset.drawn is None and recipe.dataset.holdout == 0 and not count:
        yield Finding(
            "dataset.holdout=0 keeps no image to judge by, so overfitting cannot be measured on unseen "
            "images: dataset.holdout=0.2 would keep every fifth",
            level="should",
            command=mending.look_again(_root(recipe), "dataset.holdout=0.2"),
        )
    elif recipe.dataset.holdout > 0 and count == 0:
        why = (
            f"{len(images)} images are too few ({split.FEWEST_IMAGES} are needed)"
            if len(images) < split.FEWEST_IMAGES
            else "they are near-duplicates of each other, or the last of their folder"
        )
        yield f"no image is held out: {why}, so overfitting cannot be measured on unseen images"
    elif 0 < count < 3:
        plural = "s" if count > 1 else ""
        yield f"only {count} image{plural} held out: held-out losses will be noisy"
    unjudged = [name for name, size in concepts.items() if size >= split.FEWEST_IMAGES and not judged[name]]
    if count and unjudged and recipe.dataset.holdout_path is None:
        yield f"no image of {some(unjudged)} is held out, so overfitting there is not measured"


def _unused_folders(recipe: Recipe, folder: ImageFolder) -> Iterator[str]:
    """Offer the folders of regularization images that the recipe does not use, with what to type."""
    given = recipe.regularization.get("reg_images", {}).get("path")
    used = Path(given).expanduser().absolute() if given else None
    for path, count in folder.regularization.items():
        if used is not None and used.is_relative_to(path):
            continue
        names = ",".join(dict.fromkeys([*recipe.regularization, "reg_images"]))
        choice = f"regularization=[{names}]" if "," in names else f"regularization={names}"
        typed = command(choice, f"regularization.reg_images.path={path}")
        yield (
            f"{path.name}/ has {count} regularization images, which are not trained on as the subject's; "
            f"to use them: {typed}"
        )
