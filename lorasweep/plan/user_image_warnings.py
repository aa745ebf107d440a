"""What a person's own images meet on their way into training, in sentences: what to know, what to type.

Takes a recipe and its plan. Says nothing about the drawn dataset, whose images are made to measure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from lorasweep.core import registry
from lorasweep.core.findings import Finding
from lorasweep.core.records import Plan, PlannedImage, Recipe
from lorasweep.data import captions, mending
from lorasweep.plan import trigger
from lorasweep.plan.caption_findings import short
from lorasweep.plan.fit import enlargement

_MOST_ENLARGED = 1.5  # beyond, the LoRA learns the blur of the enlargement
_LEAST_KEPT = 1 / 3  # pixels along a side: beyond, a photo shrinks to a thumbnail
_FEW_EXPOSURES, _ENOUGH_EXPOSURES = 30, 100  # per image; the common advice for characters is 100 to 250
_MOST_BEGIN = 0.6  # a first tag of at least this share of captions is likely meant to be the trigger


def find(recipe: Recipe, plan: Plan) -> Iterator[str]:
    """Find what is worth a warning."""
    is_embedded = getattr(registry.load("base", recipe.base.name), "READABLE", False)
    if recipe.dataset.drawn:
        if not is_embedded:
            yield "the images are the embedded paper dolls: dataset.path=FOLDER trains on yours"
        return
    train = plan.train_images()
    if not is_embedded:
        yield from _few_exposures(recipe, plan)
    elif recipe.base.path is None and median(map(enlargement, train)) < _LEAST_KEPT:
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
    if seen >= _FEW_EXPOSURES:
        return
    times = round(_ENOUGH_EXPOSURES / seen)
    if train.max_steps is not None:
        remedy = f"train.max_steps={train.max_steps * times}"
    elif all(image.repeats == 1 for image in plan.train_images()):
        remedy = f"dataset.repeats={times}"
    else:
        remedy = f"train.epochs={(train.epochs or 1) * times}"
    yield (
        f"an image is seen {seen:.0f} times on average, where characters are usually given 100 to 250: "
        f"{remedy} would make it about {_ENOUGH_EXPOSURES}"
    )


def _enlarged(recipe: Recipe, plan: Plan) -> Iterator[str]:
    """Images that are much enlarged to fit their buckets."""
    most = [image for image in plan.images if enlargement(image) > _MOST_ENLARGED]
    if most:
        worst = max(most, key=enlargement)
        which = f"{len(most)} images are" if len(most) > 1 else "an image is"
        yield Finding(
            f"{which} enlarged more than {_MOST_ENLARGED} times "
            f"({Path(worst.file).name}: {enlargement(worst):.1f} times): the LoRA will learn the blur",
            level="should",
            places=[short(image) for image in most],
            command=mending.aside(
                Path(recipe.dataset.path or ""),
                [Path(image.file) for image in most],
                extension=recipe.captions.extension,
            ),
        )


def _no_trigger(recipe: Recipe, train: Sequence[PlannedImage]) -> Finding:
    firsts = [captions.tags(image.caption, recipe.captions)[:1] for image in train]
    found = Counter(tag for first in firsts for tag in first if not trigger.is_class(tag)).most_common(1)
    likely = found[0] if found and found[0][1] >= _MOST_BEGIN * len(train) else None
    folder = trigger.first_word(train[0].concept.partition("_")[2])
    if likely is not None:
        word, count = likely
        advice = f"{count} of {len(train)} captions begin with {word}, so {_typed(word)}?"
        chosen = word
    elif folder is not None:
        advice = f"the folder's word is in too few captions; {_typed(folder)} puts it in front of all"
        chosen = folder
    else:
        chosen = "WORD"
        advice = "captions.trigger=WORD puts one in front of every caption"
    return Finding(
        "no trigger word is known, so there are no prompts for tier class (the same without it), and nothing "
        f"can tell whether the LoRA fires by itself: {advice}",
        level="should",
        command=mending.rewrite(Path(recipe.dataset.path or ""), f"captions.trigger={chosen}"),
    )


def _typed(word: str) -> str:
    return f"'captions.trigger={word}'" if " " in word else f"captions.trigger={word}"
