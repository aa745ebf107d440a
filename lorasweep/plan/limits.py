"""What cannot act within the steps of a training: refused before the first of them, or told on a dry run.

A training of a few steps is there to see that everything is wired, with whatever schedule and rungs there
are. Any other is meant as it is declared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lorasweep.components.schedulers import _warmup
from lorasweep.core import registry
from lorasweep.core.errors import Problem
from lorasweep.core.records import PlannedImage, Recipe

DRY_RUN_STEPS = 10  # fewer teach nothing
MOST_STEPS = 10_000_000  # years of training: a typing error, or repeats where exposures were meant
MOST_SEEN = 10_000_000  # images of an epoch, repeats counted; their order is held in memory


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
