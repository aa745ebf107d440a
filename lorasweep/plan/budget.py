"""Steps, exposures and rungs: arithmetic on planned images. Nothing is read or drawn."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lorasweep.core.records import PlannedImage, TrainOptions
from lorasweep.data import order


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
    """Times each image is seen: whole passes see it `repeats` times, only the last pass has to be walked."""
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
