"""What is wrong with the images of a dataset, taken by themselves and together: looks, sizes, copies, balance.

Takes rows and planned images, gives back findings. Opens no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from lorasweep.core.findings import Finding, Level
from lorasweep.core.printable import some
from lorasweep.core.records import PlannedImage, Recipe
from lorasweep.data import mending
from lorasweep.data.images import ImageFacts
from lorasweep.plan.caption_findings import short
from lorasweep.plan.fit import cropped_share

if TYPE_CHECKING:
    from lorasweep.plan.dataset import Row

_BLURRED = 2e-3  # sharpness; see `data/look.py`
_BORDER = 0.04  # share of a side
_MOST_CROPPED = 0.4  # of one image: beyond, its subject is likely cut
_LONGEST = 4.0  # times as long as wide: the longest of kohya's buckets
_MOST_CROPPED_OF_ALL = 0.15  # of the images' area, on average; kohya's buckets crop some 5 %
_MOST_UNEVEN = 3.0  # times as many exposures as the smallest concept
_MOST_RENAMED = 10_000

# What facts say, its level, what is said of the images.
_LOOKS: tuple[tuple[Callable[[ImageFacts], bool], Level, str], ...] = (
    (lambda facts: facts.sharpness < _BLURRED, "should", "look blurred: {}; the LoRA learns the blur"),
    (lambda facts: facts.border > _BORDER, "should", "have a border around them: {}; crop it, or it is learnt"),
    (lambda facts: facts.is_see_through, "note", "are see-through in parts, which become white: {}"),
    (lambda facts: facts.is_cmyk, "note", "are in CMYK, and may look otherwise on a screen: {}"),
)


def find(
    recipe: Recipe, rows: Sequence[Row], groups: Sequence[Sequence[int]], images: Sequence[PlannedImage]
) -> Iterator[Finding]:
    """Find images that teach something else than their subject."""
    root = Path(recipe.dataset.path or "")
    for is_meant, level, said in _LOOKS:
        if meant := [row for row in rows if is_meant(row.facts)]:
            yield _aside(recipe, said, meant, level=level)
    yield from _copies(recipe, rows, groups)
    stems: dict[Path, list[Row]] = {}
    for row in rows:
        stems.setdefault(row.found.path.with_suffix(""), []).append(row)
    if doubled := [row for same in stems.values() for row in same[1:]]:
        places = [row.found.short for row in doubled]
        yield Finding(
            f"share their name and so their caption with another image: {some(places)}",
            level="should",
            places=places,
            command=mending.aside(root, [row.found.path for row in doubled]),
        )
    yield from _cropped(recipe, images)
    yield from _balance(root, images)


def _aside(recipe: Recipe, said: str, rows: Sequence[Row], *, level: Level) -> Finding:
    places = [row.found.short for row in rows]
    paths = [row.found.path for row in rows]
    command = mending.aside(Path(recipe.dataset.path or ""), paths, extension=recipe.captions.extension)
    return Finding(said.format(some(places)), level=level, places=places, command=command)


def _copies(recipe: Recipe, rows: Sequence[Row], groups: Sequence[Sequence[int]]) -> Iterator[Finding]:
    """Images that are there more than once; across concepts they call one picture by two names."""
    across = [g for g in groups if len({rows[index].found.concept for index in g}) > 1]
    within = [group for group in groups if len(group) > 1 and group not in across]
    for which, said in (
        (across, "near-duplicates in several concepts, which teach one picture under two names, e.g. {}"),
        (within, "images are near-duplicates of others, e.g. {}"),
    ):
        if which:
            names = ", ".join(rows[index].found.short for index in which[0][:4])
            spare = [rows[index] for group in which for index in group[1:]]
            yield _aside(recipe, f"{sum(map(len, which))} {said.format(names)}", spare, level="should")


def _cropped(recipe: Recipe, images: Sequence[PlannedImage]) -> Iterator[Finding]:
    """Images that fit no bucket: one of which much is lost, or all of which some is."""
    share = fmean(cropped_share(image) for image in images)
    worst = max(images, key=cropped_share)
    lost = [image for image in images if cropped_share(image) > _MOST_CROPPED]
    cropped = [short(image) for image in lost]
    if cropped or share > _MOST_CROPPED_OF_ALL:
        yield Finding(
            f"{share:.0%} of your images' area is cropped away to fit a bucket, of {some(cropped or [short(worst)])} "
            f"up to {cropped_share(worst):.0%}: buckets=five and buckets=kohya have more shapes",
            level="should",
            places=cropped or [short(worst)],
            command=_uncropped(recipe, [Path(image.file) for image in lost if _length(image) > _LONGEST]),
        )


def _uncropped(recipe: Recipe, too_long: Sequence[Path]) -> str:
    """Buckets that crop less; images that are too long for any of them are set aside."""
    root = Path(recipe.dataset.path or "")
    if too_long:
        return mending.aside(root, too_long, extension=recipe.captions.extension)
    return mending.look_again(root, "buckets=kohya")


def _length(image: PlannedImage) -> float:
    """Of the longer side in shorter ones."""
    return max(image.width_px, image.height_px) / min(image.width_px, image.height_px)


def _balance(root: Path, images: Sequence[PlannedImage]) -> Iterator[Finding]:
    """Concepts that are seen much more often than the smallest."""
    seen: Counter[str] = Counter()
    for image in images:
        seen[image.concept] += image.repeats
    if len(seen) < 2:
        return
    (most, times), (least, fewest) = seen.most_common(1)[0], seen.most_common()[-1]
    if times <= _MOST_UNEVEN * fewest:
        return
    folder = next(Path(image.file).parent for image in images if image.concept == least)
    repeats = next(image.repeats for image in images if image.concept == least)
    renamed = folder.with_name(f"{min(_MOST_RENAMED, round(repeats * times / fewest))}_{least.partition('_')[2]}")
    yield Finding(
        f"{most} is seen {times} times an epoch and {least} {fewest}: the small one is drowned; more repeats even it",
        level="should",
        places=[least],
        command=mending.renamed(folder.parent, {folder: renamed}),
    )
