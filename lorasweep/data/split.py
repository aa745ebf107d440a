"""Choose the images that are held out for judging: by content, so that renaming a file changes nothing.

Takes digests and groups of near-duplicates, gives back indices; of every concept something is left to train
on. Knows nothing about files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from lorasweep.core.seeds import derive

FEWEST_IMAGES = 5  # below, every image is trained on


def held_out(
    digests: Sequence[str],
    groups: Sequence[Sequence[int]],
    *,
    share: float,
    seed: int,
    concepts: Sequence[str] = (),
) -> frozenset[int]:
    """Choose which images, by digests of their content, are never trained on; another seed, another choice.

    Near-duplicates share one of the groups, which hold every index once, and a group is never torn apart. All are one
    concept when none are given, one per image.

    Returns:
        Indices: about `share` of them and of each concept, at least one when `share` is above 0 and there are
        five images or more, and never all of a concept; empty when that cannot be had.
    """
    if share <= 0 or len(digests) < FEWEST_IMAGES:
        return frozenset()
    concepts = concepts or [""] * len(digests)
    sizes = Counter(concepts)
    wanted = max(1, round(share * len(digests)))
    by_chance = sorted(groups, key=lambda group: min(derive(seed, "held out", digests[i]) for i in group))
    chosen: set[int] = set()
    taken: Counter[str] = Counter()

    def take(group: Sequence[int], most: Callable[[int], int]) -> None:
        """Hold a group out, unless a concept would lose more images than `most` of its size."""
        lost = Counter(concepts[index] for index in group)
        if chosen.isdisjoint(group) and all(taken[c] + n <= most(sizes[c]) for c, n in lost.items()):
            chosen.update(group)
            taken.update(lost)

    def fill(order: Sequence[Sequence[int]], most: Callable[[int], int]) -> None:
        for group in order:
            if len(chosen) + len(group) <= wanted:
                take(group, most)

    # First each concept's own share; then whoever may still lose one, the largest first.
    fill(by_chance, lambda size: round(share * size))
    by_size = sorted(by_chance, key=lambda group: -min(sizes[concepts[index]] for index in group))
    fill(by_size, lambda size: size - 1)
    # Where every group is larger than what is wanted: the smallest one that leaves something to train on.
    for group in () if chosen else sorted(by_chance, key=len):
        if len(group) <= len(digests) // 2 and not chosen:
            take(group, lambda size: size - 1)
    return frozenset(chosen)
