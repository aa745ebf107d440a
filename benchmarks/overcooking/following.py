"""Does each metric follow its own ground truth within a run? Rank correlations. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from benchmarks.overcooking import scores
from benchmarks.overcooking.statistics import over_runs, spearman
from benchmarks.overcooking.table import Checkpoint, by_run

FOLLOWS: Final[dict[str, tuple[str, int]]] = {
    "generalisation/gap": ("copies", 1),
    "generalisation/gap_high_noise": ("copies", 1),
    "generalisation/rise": ("unlearned", 1),
    "useful_weight/slope": ("worst", 1),
    "prior_drift/class": ("altered", 1),
    "prior_drift/neighbour": ("altered", 1),
    "prior_drift/plain": ("changed_open", 1),
    "prior_drift/unrelated": ("changed_open", 1),
    "trigger_selectivity/score": ("uncalled", -1),
    "memorisation/copy_rate": ("copies", 1),
    "memorisation/tile_max": ("copies", 1),
    "memorisation/nearness": ("copies", 1),
    "memorisation/magnitude_ratio": ("copies", 1),
    "prompt_control/score": ("control", -1),
    "prompt_control/bleed_class": ("bleed", 1),
    "prompt_control/bleed_unrelated": ("bleed_open", 1),
    "diversity/relative": ("variety", -1),
    "burn/score": ("corrupt", 1),
    "identity/score": ("identity", 1),
    "overcook/score": ("worst", 1),
    "overcook/utility": ("utility", 1),
}
"""Metric -> the part of the truth that it ought to follow, and which way."""

OCCURS: Final[dict[str, float]] = {
    "identity": 0.3,
    "utility": 0.2,
    "bleed_open": 0.2,
    "uncalled": 0.5,
    "altered": 0.1,
    "changed_open": 0.2,
    "unlearned": 0.2,
}
"""What the truth has to reach in a run to have happened there; for symptoms, their limit."""

SATURATED: Final = 2.0  # excess over its limit at which a symptom's harm is full; ranks beyond mean nothing
MIN_RUNGS = 4  # of a run, for ranks to mean something


def followed(key: str) -> tuple[str, int]:
    """Look up what a metric, or the base's answer in the reader's place, ought to follow; ("", 0) if nothing."""
    return FOLLOWS.get(key.removesuffix(scores.IN_ITS_PLACE), ("", 0))


def follow(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Correlate each metric with its truth within runs: the median over the runs where that happens.

    Returns:
        By metric: `follows`, and the median with its interval over runs; `n` is the number of such runs. And
        `everywhere`, the rank correlation over all checkpoints of all runs.
    """
    checkpoints = [_scored_today(c) for c in checkpoints]
    runs = [rungs for rungs in by_run(checkpoints).values() if len(rungs) >= MIN_RUNGS]
    found = {}
    for key in sorted({key for c in checkpoints for key in c.metrics if followed(key)[0]}):
        target, direction = followed(key)
        within = [_correlate(rungs, key, target) for rungs in runs if happens(rungs, target)]
        known = direction * np.array([value for value in within if math.isfinite(value)])
        rows = _known(checkpoints, key, target)
        left, right = np.array([c.metrics[key] for c in rows]), np.array([true(c, target) for c in rows])
        found[key] = {
            "follows": target,
            **over_runs(range(len(known)), lambda chosen, known=known: float(np.median(known[chosen]))),  # type: ignore[misc]
            "everywhere": over_runs(
                [c.run for c in rows],
                lambda chosen, left=direction * left, right=right: spearman(left[chosen], right[chosen]),  # type: ignore[misc]
            ),
        }
    return found


def happens(rungs: Sequence[Checkpoint], target: str) -> bool:
    """Whether a part of the truth reaches, within a run, a height that is worth following.

    Where it was that high from the first rung on there is nothing to follow: ranks of a plateau are noise.
    """
    there = [value for c in rungs if math.isfinite(value := true(c, target))]
    return bool(there) and min(there) < OCCURS.get(target, 1.0) <= max(there)


def true(checkpoint: Checkpoint, target: str) -> float:
    """Look up one part of the truth: a symptom's excess, an extra, or a property of `Truth`."""
    truth = checkpoint.truth
    if target in truth.extra:
        return truth.extra[target]
    value = truth.excess[target] if target in truth.excess else float(getattr(truth, target))
    return min(SATURATED, value)


def _scored_today(checkpoint: Checkpoint) -> Checkpoint:
    metrics = scores.rescored(checkpoint.metrics, checkpoint.limits)
    return replace(checkpoint, rung={**checkpoint.rung, "metrics": metrics})


def _known(checkpoints: Sequence[Checkpoint], key: str, target: str) -> list[Checkpoint]:
    """Choose those of which both the metric and its truth are known."""
    return [c for c in checkpoints if key in c.metrics and math.isfinite(true(c, target))]


def _correlate(rungs: Sequence[Checkpoint], key: str, target: str) -> float:
    known = _known(rungs, key, target)
    if len(known) < MIN_RUNGS:
        return math.nan
    return spearman(np.array([c.metrics[key] for c in known]), np.array([true(c, target) for c in known]))
