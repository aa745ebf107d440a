"""Choose the images that are held out for judging: by content, so that renaming a file changes nothing.

Takes digests and groups of near-duplicates, gives back indices. Knows nothing about files.
"""

from __future__ import annotations

from collections.abc import Sequence

from lorasweep.seeds import derive

FEWEST_IMAGES = 5  # below, every image is trained on


def held_out(
    digests: Sequence[str], groups: Sequence[Sequence[int]], *, share: float, seed: int
) -> frozenset[int]:
    """Choose which images are never trained on.

    Args:
        digests: one per image, of its content.
        groups: every index once; near-duplicates share a group, and a group is never torn apart.
        share: of all images, [0, 0.5].
        seed: another seed, another choice.

    Returns:
        Indices: about `share` of them, at least one when `share` is above 0 and there are five images or
        more, and never all; empty when that cannot be had.
    """
    if share <= 0 or len(digests) < FEWEST_IMAGES:
        return frozenset()
    wanted = max(1, round(share * len(digests)))
    by_chance = sorted(groups, key=lambda group: min(derive(seed, "held out", digests[i]) for i in group))
    chosen: set[int] = set()
    for group in by_chance:
        if len(chosen) + len(group) <= wanted:
            chosen.update(group)
    if not chosen:
        # Every group is larger than what is wanted: the smallest one, when something is left to train on.
        smallest = min(by_chance, key=len)
        chosen.update(smallest if len(smallest) <= len(digests) // 2 else ())
    return frozenset(chosen)
