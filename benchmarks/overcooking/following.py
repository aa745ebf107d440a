"""Does each metric follow its own ground truth within a run? Rank correlations. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
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

SATURATED: Final = 2.0
"""Excess over its limit at which a symptom's harm is full; ranks beyond it mean nothing."""

MIN_RUNGS = 4  # of a run, for ranks to mean something


def followed(key: str) -> tuple[str, int]:
    """What a metric, or the base's answer in the reader's place, ought to follow; ("", 0) if nothing."""
    return FOLLOWS.get(key.removesuffix(scores.IN_ITS_PLACE), ("", 0))


def follow(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Median within-run rank correlation of each metric with its truth, over the runs where that happens.

    Returns:
        By metric: `follows`, and the median with its interval over runs; `n` is the number of such runs. And
        `everywhere`, the rank correlation over all checkpoints of all runs.
    """
    checkpoints = [_scored_today(c) for c in checkpoints]
    runs = [rungs for rungs in by_run(checkpoints).values() if len(rungs) >= MIN_RUNGS]
    keys = sorted({key for c in checkpoints for key in c.metrics if followed(key)[0]})
    found = {}
    for key in keys:
        target, direction = followed(key)
        there = [rungs for rungs in runs if happens(rungs, target)]
        correlations = np.array([direction * _within(rungs, key, target) for rungs in there])
        known = correlations[np.isfinite(correlations)]
        found[key] = {
            "follows": target,
            **asdict(over_runs(range(len(known)), _median_of(known))),
            "everywhere": _everywhere(checkpoints, key, target, direction),
        }
    return found


def happens(rungs: Sequence[Checkpoint], target: str) -> bool:
    """Whether a part of the truth reaches, within a run, a height that is worth following.

    Where it was that high from the first rung on there is nothing to follow: ranks of a plateau are noise.
    """
    there = [value for c in rungs if math.isfinite(value := true(c, target))]
    return bool(there) and min(there) < OCCURS.get(target, 1.0) <= max(there)


def true(checkpoint: Checkpoint, target: str) -> float:
    """One part of the truth by name: a symptom's excess, an extra, or a property of `Truth`."""
    truth = checkpoint.truth
    if target in truth.excess:
        return min(SATURATED, truth.excess[target])
    if target in truth.extra:
        return truth.extra[target]
    return min(SATURATED, truth.worst) if target == "worst" else float(getattr(truth, target))


def _scored_today(checkpoint: Checkpoint) -> Checkpoint:
    metrics = scores.rescored(checkpoint.metrics, scores.shipped())
    return replace(checkpoint, rung={**checkpoint.rung, "metrics": metrics})


def _everywhere(checkpoints: Sequence[Checkpoint], key: str, target: str, direction: int) -> dict[str, Any]:
    rows = _known(checkpoints, key, target)
    left = np.array([direction * c.metrics[key] for c in rows])
    right = np.array([true(c, target) for c in rows])
    return asdict(over_runs([c.run for c in rows], lambda chosen: spearman(left[chosen], right[chosen])))


def _known(checkpoints: Sequence[Checkpoint], key: str, target: str) -> list[Checkpoint]:
    """Those of which both the metric and its truth are known."""
    return [c for c in checkpoints if key in c.metrics and math.isfinite(true(c, target))]


def _within(rungs: Sequence[Checkpoint], key: str, target: str) -> float:
    pairs = [(c.metrics[key], true(c, target)) for c in _known(rungs, key, target)]
    if len(pairs) < MIN_RUNGS:
        return math.nan
    left, right = np.array(pairs).T
    return spearman(left, right)


def _median_of(values: np.ndarray) -> Any:
    return lambda rows: float(np.median(values[rows])) if len(rows) else math.nan
