"""The images of a recipe: found or drawn, inspected, captioned, split, in buckets.

Takes a recipe, returns a `Dataset` of planned images, or raises with every problem. Knows nothing about
steps.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasweep.core import registry
from lorasweep.core.errors import DatasetError, InputError, Problem
from lorasweep.core.records import Bucket, PlannedImage, Recipe
from lorasweep.core.seeds import derive
from lorasweep.data import captions, near_duplicates, split
from lorasweep.data.assign import Assignment, assign, assign_without_upscale
from lorasweep.data.folder import Found, FoundImage, find_images
from lorasweep.data.images import ImageFacts
from lorasweep.data.leftovers import some
from lorasweep.plan import trigger
from lorasweep.plan.drawn import draw_dataset, subject_problems
from lorasweep.plan.image_facts_cache import inspect_all
from lorasweep.plan.trigger import text_of


@dataclass(frozen=True)
class Dataset:
    """What a recipe trains on and is judged by.

    Attributes:
        images: sorted by path.
        triggers: the words that call the subjects, that of most images first.
        warnings: for people.
    """

    images: tuple[PlannedImage, ...]
    triggers: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def trigger(self) -> str | None:
        """The trigger of most images, when there is one."""
        return next(iter(self.triggers), None)


def read_dataset(recipe: Recipe) -> Dataset:
    """Read, or draw and read, the images of a recipe.

    Raises:
        DatasetError, ConfigError: with every problem found.
    """
    options = recipe.dataset
    if options.path is None:
        if problems := subject_problems(options.dollhouse):
            raise DatasetError(problems, subject="the dollhouse dataset")
        root = draw_dataset(options.dollhouse)
    else:
        root = Path(options.path).expanduser()
    folder = find_images(root, caption_extension=recipe.captions.extension)
    found: Sequence[FoundImage] = folder.images
    if options.path is None and recipe.captions.trigger is not None:
        found = [_without_word(image, options.dollhouse.subject, recipe) for image in found]
    inspected, problems = inspect_all([image.path for image in found])
    facts = [fact for fact in inspected if fact is not None]
    assigned = assign_all(recipe, found, inspected, problems)
    if problems:
        raise DatasetError(problems, subject=f"the dataset {root}")
    groups = near_duplicates.groups([fact.signature for fact in facts])
    chosen = split.held_out(
        [fact.sha256 for fact in facts],
        groups,
        share=options.holdout,
        seed=options.holdout_seed,
        concepts=[image.concept for image in found],
    )
    triggers = trigger.find_triggers(recipe, found)
    apart = _decoupled(recipe, found, facts, held_out=chosen)
    images = tuple(
        PlannedImage(
            file=str(image.path),
            sha256=fact.sha256,
            concept=image.concept,
            caption=captions.planned(
                text_of(image), triggers[image.class_tokens], recipe.captions, decoupled=index in apart
            ),
            split="held_out" if index in chosen else "train",
            repeats=options.repeats or image.repeats,
            width_px=fact.width_px,
            height_px=fact.height_px,
            bucket=place.bucket,
            resize_px=place.resize_px,
            crop_px=place.crop_px,
            profile=fact.profile,
        )
        for index, (image, fact, place) in enumerate(zip(found, facts, assigned, strict=True))
    )
    notes = [
        *folder.warnings,
        *unused_parts(found, facts),
        *trigger.notes(recipe, found, triggers),
        *_notes(recipe, folder, groups, images),
    ]
    return Dataset(images=images, triggers=trigger.by_images(found, triggers), warnings=tuple(notes))


def written_captions(recipe: Recipe) -> dict[str, str | None]:
    """Captions as their owner wrote them, by the image's path; None where there is none."""
    options = recipe.dataset
    root = draw_dataset(options.dollhouse) if options.path is None else Path(options.path).expanduser()
    found = find_images(root, caption_extension=recipe.captions.extension)
    return {str(image.path): image.caption for image in found.images}


def assign_all(
    recipe: Recipe, found: Sequence[FoundImage], facts: Sequence[ImageFacts | None], problems: list[Problem]
) -> list[Assignment]:
    """Give every image its bucket; an image that fits in none is a problem."""
    base, options = recipe.base, recipe.buckets.options
    try:
        build = registry.load("buckets", recipe.buckets.name).build
        buckets: tuple[Bucket, ...] = build(base, **options)
    except InputError as error:
        problems += error.problems
        return []
    assigned = []
    for image, fact in zip(found, facts, strict=True):
        if fact is None:
            continue
        if options["upscale"]:
            place: Assignment | None = assign(fact.width_px, fact.height_px, buckets)
        else:
            place = assign_without_upscale(
                fact.width_px, fact.height_px, area_px=base.resolution**2, step_px=base.bucket_step
            )
        if place is None:
            message = f"is {fact.width_px} x {fact.height_px} px, less than one bucket step ({base.bucket_step})"
            problems.append(Problem(short(image), message, "take it out, or buckets.upscale=true"))
        else:
            assigned.append(place)
    return assigned


def unused_parts(found: Sequence[FoundImage], facts: Sequence[ImageFacts | None]) -> list[str]:
    """Say what of image files is not used: frames, and colour profiles that cannot be."""
    animated: list[str] = []
    names: dict[str, list[str]] = {}
    for image, fact in zip(found, facts, strict=True):
        if fact is not None and fact.is_animated:
            animated.append(short(image))
        if fact is not None and fact.unused_profile:
            names.setdefault(fact.unused_profile, []).append(short(image))
    notes = [f"only the first frame or page is used of {some(animated)}"] if animated else []
    return notes + [
        f"the colour profile of {some(those)} {why}: read as sRGB; save them in sRGB if colours matter"
        for why, those in names.items()
    ]


def _without_word(image: FoundImage, word: str, recipe: Recipe) -> FoundImage:
    """A drawn image that another trigger calls: the word that the subject was drawn under goes."""
    caption = captions.without_trigger(image.caption or "", word, recipe.captions)
    return dataclasses.replace(image, caption=caption)


def _decoupled(
    recipe: Recipe, found: Sequence[FoundImage], facts: Sequence[ImageFacts], *, held_out: Collection[int]
) -> set[int]:
    """The share of each concept's training images that do without the trigger: the same in every trial."""
    concepts: dict[str, list[int]] = {}
    for index, image in enumerate(found):
        if index not in held_out:
            concepts.setdefault(image.concept, []).append(index)
    chosen: set[int] = set()
    for members in concepts.values():
        members.sort(key=lambda index: derive(recipe.dataset.holdout_seed, "decouple", facts[index].sha256))
        chosen.update(members[: round(recipe.captions.decouple * len(members))])
    return chosen


def _notes(
    recipe: Recipe, folder: Found, groups: Sequence[Sequence[int]], images: Sequence[PlannedImage]
) -> Iterator[str]:
    found = folder.images
    yield from _regularization(recipe, folder)
    if any(image.caption is None for image in found):
        yield _uncaptioned(recipe, folder)
    for name in captions.unmatched((image.caption or "" for image in found), recipe.captions):
        yield f"captions: {name!r} is to be pruned or replaced, but is in no caption"
    if recipe.captions.decouple > 0 and not recipe.captions.prune:
        yield (
            "captions.decouple takes the trigger out for the tags in captions.prune, and there are none: "
            "those captions only lose the trigger"
        )
    copies = [group for group in groups if len(group) > 1]
    if copies:
        names = ", ".join(short(found[index]) for index in copies[0][:4])
        yield f"{sum(map(len, copies))} images are near-duplicates of others, e.g. {names}"
    yield from _held_out(recipe, images)


def _held_out(recipe: Recipe, images: Sequence[PlannedImage]) -> Iterator[str]:
    """Say where there is too little to judge by."""
    concepts = Counter(image.concept for image in images)
    judged = Counter(image.concept for image in images if image.split == "held_out")
    count = judged.total()
    if recipe.dataset.path is not None and recipe.dataset.holdout == 0:
        yield (
            "dataset.holdout=0 keeps no image to judge by, so overfitting cannot be measured on unseen "
            "images: dataset.holdout=0.2 would keep every fifth"
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
    if count and unjudged:
        yield f"no image of {some(unjudged)} is held out, so overfitting there is not measured"


def _regularization(recipe: Recipe, folder: Found) -> Iterator[str]:
    """Offer the folders of regularization images that the recipe does not use, with what to type."""
    given = recipe.regularization.get("reg_images", {}).get("path")
    used = Path(given).expanduser().absolute() if given else None
    for path, count in folder.regularization.items():
        if used is not None and used.is_relative_to(path):
            continue
        names = ",".join(dict.fromkeys([*recipe.regularization, "reg_images"]))
        choice = f"regularization=[{names}]" if "," in names else f"regularization={names}"
        typed = shlex.join([choice, f"regularization.reg_images.path={path}"])
        yield (
            f"{path.name}/ has {count} regularization images, which are not trained on as the subject's; "
            f"to use them: {typed}"
        )


def _uncaptioned(recipe: Recipe, folder: Found) -> str:
    """Say which images have no caption file, and what they are trained with instead."""
    without = [image for image in folder.images if image.caption is None]
    if all(image.class_tokens for image in without):
        instead = "the words of the folder's name"
    elif any(image.class_tokens for image in without):
        instead = "the words of the folder's name, where it has some"
    else:
        instead = "the trigger alone" if recipe.captions.trigger else "an empty caption"
    other = folder.other_extension
    names = some([short(image) for image in without])
    return f"no caption file for {len(without)} of {len(folder.images)} images ({names}): trained with {instead}" + (
        f"; {other} files are there: captions.extension={other}" if other else ""
    )


def short(image: FoundImage) -> str:
    """An image as a person would look it up."""
    return f"{image.path.parent.name}/{image.path.name}"
