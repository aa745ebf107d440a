"""The order in which images are trained on: batches of one bucket, repeats expanded, shuffled per epoch.

Takes planned images and a seed, gives back indices. Pure: planning counts exposures with the very code that
training walks. Source: kohya-ss/sd-scripts, library/train_util.py `make_buckets` and `shuffle_buckets`, at
48d368fa; departure: a generator of our own instead of the global one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from lorasweep.core.records import Bucket, PlannedImage
from lorasweep.core.seeds import derive


def epoch_batches(images: Sequence[PlannedImage], *, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Arrange one epoch, in its own order: every image `repeats` times, buckets never mixed.

    Returns batches of indices into `images`; one batch of each bucket may be short.
    """
    rng = random.Random(derive(seed, "order", epoch))
    batches: list[list[int]] = []
    for members in buckets_of(images).values():
        queue = [index for index in members for _ in range(images[index].repeats)]
        rng.shuffle(queue)
        batches += [queue[start : start + batch_size] for start in range(0, len(queue), batch_size)]
    rng.shuffle(batches)
    return batches


def epoch_steps(
    images: Sequence[PlannedImage], *, batch_size: int, accumulation: int, seed: int, epoch: int
) -> list[list[list[int]]]:
    """Arrange one epoch in optimizer steps of up to `accumulation` batches; the last one may be short."""
    batches = epoch_batches(images, batch_size=batch_size, seed=seed, epoch=epoch)
    return [batches[start : start + accumulation] for start in range(0, len(batches), accumulation)]


def batches_per_epoch(images: Sequence[PlannedImage], batch_size: int) -> int:
    """Count the batches of an epoch: the sum over buckets of ceil(images x repeats / batch size)."""
    return sum(
        math.ceil(sum(images[index].repeats for index in members) / batch_size)
        for members in buckets_of(images).values()
    )


def buckets_of(images: Sequence[PlannedImage]) -> dict[Bucket, list[int]]:
    """Return indices by bucket, buckets sorted by width, then height."""
    found: dict[Bucket, list[int]] = {}
    for index, image in enumerate(images):
        found.setdefault(image.bucket, []).append(index)
    return dict(sorted(found.items()))
