"""What is wrong with the images of a dataset, taken by themselves and together: looks, sizes, copies, balance.

Takes rows and planned images, gives back findings: what to know, what to type. Opens no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean, median

from lorasweep.core import paths, registry
from lorasweep.core.findings import Finding, Level
from lorasweep.core.hydra_text import write_text
from lorasweep.core.printable import command, some
from lorasweep.core.records import Plan, PlannedImage, Recipe
from lorasweep.data import captions, mending
from lorasweep.data.assign import Row
from lorasweep.data.folder import FoundImage
from lorasweep.data.images import ImageFacts
from lorasweep.plan import trigger

_BLURRED = 2e-3  # sharpness; see `data/look.py`
_BORDER = 0.04  # share of a side
_MOST_CROPPED = 0.4  # of one image: beyond, its subject is likely cut
_LONGEST = 4.0  # times as long as wide: the longest of kohya's buckets
_MOST_CROPPED_OF_ALL = 0.15  # of the images' area, on average; kohya's buckets crop some 5 %
_MOST_UNEVEN = 3.0  # times as many exposures as the smallest concept
_MOST_RENAMED = 10_000

# What facts say, its level, what is said of the images.
_LOOKS: tuple[tuple[Callable[[ImageFacts], bool], Level, str], ...] = (
    (lambda facts: facts.sharpness < _BLURRED, "should", "blurred: {}; the LoRA learns the blur"),
    (lambda facts: facts.border > _BORDER, "should", "with a border around: {}; crop it, or it is learnt"),
    (lambda facts: facts.is_see_through, "note", "see-through in parts, which become white: {}"),
    (lambda facts: facts.is_cmyk, "note", "in CMYK, and may look otherwise on a screen: {}"),
)
_MOST_ENLARGED = 1.5  # beyond, the LoRA learns the blur of the enlargement
_LEAST_KEPT = 1 / 3  # pixels along a side: beyond, a photo shrinks to a thumbnail
_FEW_EXPOSURES, _ENOUGH_EXPOSURES = 30, 100  # per image; the common advice for characters is 100 to 250
_MOST_BEGIN = 0.6  # a first tag of at least this share of captions is likely meant to be the trigger


def find(
    recipe: Recipe, rows: Sequence[Row], groups: Sequence[Sequence[int]], images: Sequence[PlannedImage]
) -> Iterator[Finding]:
    """Find images that teach something else than their subject."""
    root = Path(recipe.dataset.path or "")
    for is_meant, level, said in _LOOKS:
        if meant := [row.found for row in rows if is_meant(row.facts)]:
            yield aside(recipe, said.format(some([image.short for image in meant])), meant, level=level)
    yield from _copies(recipe, rows, groups)
    stems: dict[tuple[Path, str | None], list[Row]] = {}
    for row in rows:
        stems.setdefault((paths.whole(row.found.path.with_suffix("")), row.found.caption), []).append(row)
    if doubled := [row for same in stems.values() for row in same[1:]]:
        places = [row.found.short for row in doubled]
        yield Finding(
            f"with the name, and so the caption, of another image: {some(places)}",
            level="should",
            places=places,
            command=mending.aside(root, [row.found.path for row in doubled]),
        )
    yield from _cropped(recipe, images)
    yield from _balance(recipe, [image for image in images if image.split == "train"])


def aside(
    recipe: Recipe, said: str, images: Sequence[FoundImage | PlannedImage], *, level: Level = "should"
) -> Finding:
    """Find images that may go, with their captions."""
    root, paths = Path(recipe.dataset.path or ""), [image.path for image in images]
    command = mending.aside(root, paths, extension=recipe.captions.extension)
    return Finding(said, level=level, places=[image.short for image in images], command=command)


def _copies(recipe: Recipe, rows: Sequence[Row], groups: Sequence[Sequence[int]]) -> Iterator[Finding]:
    """Find images that are there more than once; across concepts they call one picture by two names."""
    across = [g for g in groups if len({rows[index].found.concept for index in g}) > 1]
    within = [group for group in groups if len(group) > 1 and group not in across]
    for which, one, many in (
        (across, "1 picture is in several concepts", "pictures are in several concepts"),
        (within, "1 image is a near-duplicate of another", "images are near-duplicates of others"),
    ):
        if which:
            names = ", ".join(rows[index].found.short for index in which[0][:4])
            copies = (sorted((rows[index] for index in group), key=_worth) for group in which)
            spare = [row.found for alike in copies for row in alike[1:]]
            count, harm = (len(which), ", and taught under two names") if which is across else (len(spare), "")
            yield aside(recipe, f"{one if count == 1 else f'{count} {many}'}{harm}, e.g. {names}", spare)


def _worth(row: Row) -> tuple[int, int]:
    """Order copies of a picture, the one to keep first: with most pixels; of equal ones that without ` copy`, `(1)`."""
    return -row.facts.width_px * row.facts.height_px, len(row.found.path.name)


def _cropped(recipe: Recipe, images: Sequence[PlannedImage]) -> Iterator[Finding]:
    """Find images that fit no bucket: one of which much is lost, or all of which some is."""
    share = fmean(image.cropped_share for image in images)
    worst = max(images, key=lambda image: image.cropped_share)
    lost = [image for image in images if image.cropped_share > _MOST_CROPPED]
    cropped = [image.short for image in lost]
    if cropped or share > _MOST_CROPPED_OF_ALL:
        root = Path(recipe.dataset.path or "")
        sides = {image.path: sorted((image.width_px, image.height_px)) for image in lost}
        too_long = [path for path, (short_px, long_px) in sides.items() if long_px > _LONGEST * short_px]
        apart = mending.aside(root, too_long, extension=recipe.captions.extension)
        yield Finding(
            f"{share:.0%} of your images' area is cropped away to fit a bucket, of {some(cropped or [worst.short])} "
            f"up to {worst.cropped_share:.0%}: buckets=five and buckets=kohya have more shapes",
            level="should",
            places=cropped or [worst.short],
            command=apart if too_long else mending.look_again(root, "buckets=kohya"),
        )


def _balance(recipe: Recipe, images: Sequence[PlannedImage]) -> Iterator[Finding]:
    root, seen = Path(recipe.dataset.path or ""), Counter[str]()
    for image in images:
        seen[image.concept] += image.repeats
    if len(seen) < 2:
        return
    (most, times), (least, fewest) = seen.most_common(1)[0], seen.most_common()[-1]
    if times <= _MOST_UNEVEN * fewest:
        return
    folder = next(image.path.parent for image in images if image.concept == least)
    repeats = next(image.repeats for image in images if image.concept == least)
    renamed = folder.with_name(f"{min(_MOST_RENAMED, round(repeats * times / fewest))}_{least.partition('_')[2]}")
    said = f"{most} is seen {times} times an epoch and {least} {fewest}: the small one is drowned"
    if recipe.dataset.repeats is None:
        said, command = f"{said}; more repeats even it", mending.renamed(root, {folder: renamed})
    else:
        said, command = f"{said}; without dataset.repeats, its folder's own may even it", mending.look_again(root)
    yield Finding(said, level="should", places=[least], command=command)


def find_planned(recipe: Recipe, plan: Plan) -> Iterator[str]:
    """Find what a person's own images meet on their way into training; a drawn dataset's are made to measure."""
    is_embedded = getattr(registry.load("base", recipe.base.name), "READABLE", False)
    if recipe.dataset.drawn:
        if not is_embedded:
            yield "the images are the embedded paper dolls: dataset.path=FOLDER trains on yours"
        return
    train = plan.train_images()
    if not is_embedded:
        yield from _few_exposures(recipe, plan)
    elif recipe.base.path is None and median(image.enlargement for image in train) < _LEAST_KEPT:
        side = recipe.base.resolution
        yield (
            f"the embedded base sees your images at {side} x {side} px and knows nothing but paper dolls: it "
            "is there to try lorasweep out; for a LoRA to use: base=stable_diffusion base.path=MODEL"
        )
    yield from _enlarged(recipe, plan)
    if plan.trigger is None and "class" not in plan.prompts:
        yield _no_trigger(recipe, train)


def _few_exposures(recipe: Recipe, plan: Plan) -> Iterator[str]:
    seen, train = plan.exposures_per_image, recipe.train
    if not 0 < seen < _FEW_EXPOSURES:  # of none, it is said that no image is seen
        return
    times = round(_ENOUGH_EXPOSURES / seen)
    if train.max_steps is not None:
        remedy = f"train.max_steps={train.max_steps * times}"
    elif all(image.repeats == 1 for image in plan.train_images()):
        remedy = f"dataset.repeats={times}"
    else:
        remedy = f"train.epochs={(train.epochs or 1) * times}"
    yield (
        f"an image is seen {round(seen, 1):g} times on average, where characters are usually given 100 to 250: "
        f"{remedy} would make it about {_ENOUGH_EXPOSURES}"
    )


def _enlarged(recipe: Recipe, plan: Plan) -> Iterator[str]:
    most = [image for image in plan.images if image.enlargement > _MOST_ENLARGED]
    if most:
        worst = max(most, key=lambda image: image.enlargement)
        which = f"{len(most)} images are" if len(most) > 1 else "an image is"
        name = f"{worst.path.name}: {worst.enlargement:.1f} times"
        said = f"{which} enlarged more than {_MOST_ENLARGED} times ({name}): the LoRA will learn the blur"
        yield aside(recipe, said, most)


def _no_trigger(recipe: Recipe, train: Sequence[PlannedImage]) -> Finding:
    firsts = [captions.tags(image.caption, recipe.captions)[:1] for image in train]
    found = Counter(tag for first in firsts for tag in first if not trigger.is_class(tag)).most_common(1)
    likely = found[0] if found and found[0][1] >= _MOST_BEGIN * len(train) else None
    folder = trigger.first_word(train[0].concept.partition("_")[2])
    if likely is not None:
        word, count = likely
        typed = command(write_text("captions.trigger", word))
        advice = f"{count} of {len(train)} captions begin with {word}, so {typed}?"
        chosen = word
    elif folder is not None:
        typed = command(write_text("captions.trigger", folder))
        advice = f"the folder's word is in too few captions; {typed} puts it in front of all"
        chosen = folder
    else:
        chosen = "WORD"
        advice = "captions.trigger=WORD puts one in front of every caption"
    return Finding(
        "no trigger word is known, so there are no prompts for tier class (the same without it), and nothing "
        f"can tell whether the LoRA fires by itself: {advice}",
        level="should",
        command=mending.rewrite(Path(recipe.dataset.path or ""), write_text("captions.trigger", chosen)),
    )
