"""How often each regularization image is repeated, so that all together keep up with the training images.

Takes numbers, gives back numbers. Knows nothing about images.
"""

from __future__ import annotations

from collections.abc import Sequence


def balance_repeats(repeats: Sequence[int], wanted: int) -> list[int]:
    """Raise the repeats of images, one image at a time and round after round, until they reach a number.

    The first round takes images at the repeats they come with, and ends as soon as that is enough: the images
    after it are not used at all. Every further round adds 1 to each.

    Args:
        repeats: of each image as its folder says; >= 1.
        wanted: exposures in an epoch; >= 0.

    Returns:
        Repeats, 0 for an image that is not used. Their sum is `wanted`, or more when the repeats of the first
        round overshoot it.

    Source: kohya-ss/sd-scripts, library/train_util.py, DreamBoothDataset, at 48d368fa.
    """
    counts = [0] * len(repeats)
    dealt = 0
    for index, times in enumerate(repeats):
        if dealt >= wanted:
            return counts
        counts[index] = times
        dealt += times
    rounds, rest = divmod(max(0, wanted - dealt), max(1, len(repeats)))
    return [count + rounds + (index < rest) for index, count in enumerate(counts)]
