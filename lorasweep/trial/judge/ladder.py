"""Which LoRA weight serves the kept checkpoint best: U at every weight of the ladder, and between them.

    [(0.4, U), (0.7, U), (1.0, U)]  ->  BestWeight(0.7, low=0.6, high=0.85)

At weight 0 there is the base, whose F and hence U are 0: a free step of the ladder. Between steps U is taken
as straight, which flatters no weight that was not drawn. Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorasweep.trial.judge.score import UTILITY

GOOD_ENOUGH = 0.9  # share of the best U that a recommended weight must keep
GRID = 0.05  # weights that people type


@dataclass(frozen=True, kw_only=True)
class BestWeight:
    """The drawn weight with the best U, and the range around it that keeps nine tenths of that U."""

    weight: float
    low: float
    high: float
    utility: float


def best_weight(steps: Sequence[Mapping[str, Any]]) -> BestWeight | None:
    """Find the best weight of a ladder, of steps with "weight" and "metrics"; one without a utility is passed over.

    None with fewer than two judged weights, or when none is of any use.
    """
    curve = sorted((step["weight"], step["metrics"][UTILITY]) for step in steps if UTILITY in step["metrics"])
    if len(curve) < 2:
        return None
    weight, utility = max(curve, key=lambda point: (point[1], -point[0]))
    if utility <= 0:
        return None
    curve = [(0.0, 0.0), *curve]
    place = [point[0] for point in curve].index(weight)
    low = _last_good(curve[place::-1], GOOD_ENOUGH * utility)
    high = _last_good(curve[place:], GOOD_ENOUGH * utility)
    return BestWeight(
        weight=weight,
        low=min(weight, round(math.ceil(low / GRID - 1e-9) * GRID, 2)),
        high=max(weight, round(math.floor(high / GRID + 1e-9) * GRID, 2)),
        utility=utility,
    )


def _last_good(walk: Sequence[tuple[float, float]], least: float) -> float:
    """Return how far one can walk along straight pieces from the best weight before U falls below `least`."""
    for (here, good), (there, next_one) in zip(walk, walk[1:], strict=False):
        if next_one < least:
            return here + (there - here) * (good - least) / (good - next_one)
    return walk[-1][0]
