"""Which arms to cook again with further seeds, so that the best one becomes known. Pure.

    values and seeds of every arm  ->  (arm, seed) pairs of the next round, none when it is decided

Repeats go to the best arm and to the few that are hardest to tell from it, in units of their own noise: these
decide the question (the idea of OCBA, Chen et al. 2000, doi:10.1023/A:1008349927281). All of a round share a
seed, since comparisons are paired. Knows nothing about trials or processes.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence, Set

from lorasweep.sweep.ranking.noise import Comparison, Values, rank

CONTENDERS = 3  # beside the best, in one round


def next_round(
    values: Values, taken: Mapping[str, Set[int]], *, goal: str, interim_looks: int, limit: Mapping[str, int]
) -> list[tuple[str, int]]:
    """Choose the repeats of one round.

    Args:
        values: by arm and seed, of the trials that have one.
        taken: seeds that an arm was cooked with, with or without a value.
        goal: "maximize" or "minimize".
        interim_looks: how often was looked, this time included.
        limit: how many seeds an arm may have at most.

    Returns:
        Pairs to cook; empty when the best arm is known, or when no repeat is left that could help.
    """
    if len(values) < 2:
        return []
    ranking = rank(values, goal=goal, interim_looks=interim_looks)
    best = ranking.order[0]
    open_ones = [each for each in ranking.comparisons if not each.told_apart and _room(each.worse, taken, limit)]
    if not open_ones or not _room(best, taken, limit):
        return []
    chosen = [best, *(each.worse for each in _hardest(open_ones)[:CONTENDERS])]
    seed = _common_seed([taken[arm] for arm in chosen])
    return [(arm, seed) for arm in chosen if seed not in taken[arm]]


def _hardest(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Sort by difference over noise; where an arm has no repeats, its noise is taken to be the others'."""
    widths = [width for each in comparisons if (width := each.width) is not None]
    usual = statistics.median(widths) if widths else 1.0

    def ratio(each: Comparison) -> float:
        width = usual if each.width is None else each.width
        return each.difference / width if width > 0 else 0.0

    return sorted(comparisons, key=ratio)


def _room(arm: str, taken: Mapping[str, Set[int]], limit: Mapping[str, int]) -> bool:
    return len(taken[arm]) < limit[arm]


def _common_seed(taken: Sequence[Set[int]]) -> int:
    """The smallest seed that some have and others lack, so that pairs become whole; else a new one."""
    some, every = set().union(*taken), set(taken[0]).intersection(*taken)
    return min(some - every, default=max(some, default=-1) + 1)
