"""Steps, exposures and rungs: arithmetic on planned images; and what cannot act within so many steps.

The latter is refused, or told on a dry run: a training of a few steps is there to see that everything is wired, with
whatever schedule and rungs there are.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lorasweep.components.schedulers import _warmup
from lorasweep.core import registry
from lorasweep.core.errors import Problem
from lorasweep.core.records import PlannedImage, Recipe, TrainOptions
from lorasweep.data import order

DRY_RUN_STEPS = 10  # fewer teach nothing
MOST_STEPS = 10_000_000  # years of training: a typing error, or repeats where exposures were meant
MOST_SEEN = 10_000_000  # images of an epoch, repeats counted; their order is held in memory


@dataclass(frozen=True)
class Budget:
    """What training comes to."""

    batches_per_epoch: int  # micro-batches
    steps_per_epoch: int  # optimizer steps that an epoch counts as
    steps: int  # optimizer steps in all
    by_image: tuple[int, ...]  # times each training image is seen, in the order given
    by_concept: dict[str, int]  # times any training image of a concept is seen
    by_source: dict[str, int]  # times any regularization image of a regularizer is seen; counted nowhere else


NOTHING = Budget(batches_per_epoch=1, steps_per_epoch=1, steps=1, by_image=(), by_concept={}, by_source={})


def count(
    train: Sequence[PlannedImage],
    options: TrainOptions,
    *,
    seed: int,
    regularization: Sequence[PlannedImage] = (),
) -> Budget:
    """Count steps and exposures exactly.

    Args:
        train: the training images.
        options: `max_steps` wins over `epochs`.
        seed: the recipe's; it decides which images a last, partial epoch still sees.
        regularization: images that share the batches, and so the steps, with the training images.
    """
    images = [*train, *regularization]
    batches = order.batches_per_epoch(images, options.batch_size)
    whole = math.ceil(batches / options.gradient_accumulation)
    per_epoch = options.steps_per_epoch or whole
    steps = options.max_steps or (options.epochs or 0) * per_epoch
    seen = _exposures(images, options, steps=steps, steps_per_pass=whole, seed=seed)
    by_concept: Counter[str] = Counter()
    by_source: Counter[str] = Counter()
    for image, times in zip(regularization, seen[len(train) :], strict=True):
        by_source[image.concept] += times
    for image, times in zip(train, seen, strict=False):
        by_concept[image.concept] += times
    return Budget(
        batches_per_epoch=batches,
        steps_per_epoch=per_epoch,
        steps=steps,
        by_image=tuple(seen[: len(train)]),
        by_concept=dict(by_concept),
        by_source=dict(by_source),
    )


def rungs(steps: int, count: int) -> tuple[int, ...]:
    """Place rungs evenly, the last at the end; fewer when there are not that many steps."""
    return tuple(sorted({max(1, round(steps * rung / count)) for rung in range(1, count + 1)}))


def _exposures(
    images: Sequence[PlannedImage], options: TrainOptions, *, steps: int, steps_per_pass: int, seed: int
) -> list[int]:
    """Count how often each image is seen: whole passes, `repeats` times each; only the last one is walked."""
    passes, rest = divmod(steps, steps_per_pass)
    seen = [passes * image.repeats for image in images]
    if rest == 0:
        return seen
    last = order.epoch_steps(
        images,
        batch_size=options.batch_size,
        accumulation=options.gradient_accumulation,
        seed=seed,
        epoch=passes,
    )
    for batch in itertools.chain.from_iterable(last[:rest]):
        for index in batch:
            seen[index] += 1
    return seen


def epoch_problems(train: Sequence[PlannedImage]) -> Iterator[Problem]:
    """Find an epoch that is too long to be arranged."""
    seen = sum(image.repeats for image in train)
    if seen > MOST_SEEN:
        message = f"an epoch must have at most {MOST_SEEN:,} images, repeats counted, got {seen:,}"
        yield Problem("dataset.repeats", message, "fewer repeats, and more train.epochs")


def problems(recipe: Recipe, steps: int) -> Iterator[Problem]:
    """Find the schedule's knobs and the rungs that have no room in `steps` optimizer steps."""
    if steps > MOST_STEPS:
        knob = "epochs" if recipe.train.max_steps is None else "max_steps"
        message = f"must come to at most {MOST_STEPS:,} steps, got {steps:,}"
        yield Problem(f"train.{knob}", message, "lower it, or dataset.repeats")
        return
    for knob, message, hint in _misfits(recipe, steps):
        if knob == "warmup" or steps >= DRY_RUN_STEPS:
            yield Problem(f"scheduler.{knob}", message, hint)
    rungs = recipe.train.rungs
    if rungs > steps >= DRY_RUN_STEPS:
        hint = f"override: train.rungs={steps}"
        yield Problem("train.rungs", f"must be at most {steps}, the steps of the training, got {rungs}", hint)


def warnings(recipe: Recipe, steps: int, *, rungs: int, batches_per_epoch: int) -> Iterator[str]:
    """Find what a dry run has no room for, and numbers of steps and batches that change nothing."""
    train = recipe.train
    if rungs < train.rungs:
        yield f"{steps} steps leave room for {rungs} rungs, not {train.rungs}"
    if steps < DRY_RUN_STEPS:
        for knob, _, _ in _misfits(recipe, steps):
            yield f"{steps} steps have no room for scheduler.{knob}={recipe.scheduler.options[knob]:g}"
    if train.gradient_accumulation > batches_per_epoch:
        batches = "1 batch" if batches_per_epoch == 1 else f"{batches_per_epoch} batches"
        yield (
            f"an epoch has {batches}, so a step never holds the {train.gradient_accumulation} of "
            "train.gradient_accumulation: more dataset.repeats, or a smaller train.batch_size"
        )


def _misfits(recipe: Recipe, steps: int) -> Iterator[tuple[str, str, str]]:
    module = registry.load("scheduler", recipe.scheduler.name)
    found: Iterator[tuple[str, str, str]] = getattr(module, "misfits", _warmup.misfits)(
        steps, **recipe.scheduler.options
    )
    return found
