"""The statistics of the proof: ranks, areas, intervals.

Runs, not checkpoints, are the sample: checkpoints of one run resemble each other, so every interval comes
from drawing whole runs with replacement.

Letters: N checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr

DRAWS = 500
CONFIDENCE = 0.95

Estimate = dict[str, Any]  # "value", its interval "low" to "high", and "n", of how many rows; NaN where undefined


def auroc(scores_N: np.ndarray, positive_N: np.ndarray) -> float:
    """Compute the area under the ROC curve, ties counting half; NaN with one class only.

    By ranks (Mann and Whitney, 1947): scikit-learn's `roc_auc_score` gives the same and takes a hundred times
    as long, for which the intervals have no time.
    """
    positive_N = positive_N.astype(bool)
    positives, negatives = int(positive_N.sum()), int((~positive_N).sum())
    if not positives or not negatives:
        return math.nan
    return float((rankdata(scores_N)[positive_N].sum() / positives - (positives + 1) / 2) / negatives)


def auroc_change(one_N: np.ndarray, other_N: np.ndarray, positive_N: np.ndarray) -> float:
    """Compute how much larger the area of the other scores is."""
    return auroc(other_N, positive_N) - auroc(one_N, positive_N)


def spearman(left_N: np.ndarray, right_N: np.ndarray) -> float:
    """Compute the rank correlation; NaN when either does not vary or there are fewer than 3."""
    if len(left_N) < 3 or np.ptp(left_N) == 0 or np.ptp(right_N) == 0:
        return math.nan
    return float(spearmanr(left_N, right_N).statistic)


def over_runs(runs: Sequence[Hashable], statistic: Callable[..., float], *values_N: np.ndarray) -> Estimate:
    """Estimate a statistic and its percentile interval by drawing runs with replacement.

    `runs` says of each row which run it belongs to; the statistic is of the drawn rows of the values, and may be NaN:
    such draws are left out.
    """
    members = list(rows_by_run(runs).values())
    if not members:
        return {"value": math.nan, "low": math.nan, "high": math.nan, "n": 0}
    rng = np.random.default_rng(0)
    drawn = (np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))]) for _ in range(DRAWS))
    found = np.array([statistic(*(each[rows] for each in values_N)) for rows in drawn])
    finite = found[np.isfinite(found)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(finite, [tail, 1 - tail]) if len(finite) else (math.nan, math.nan)
    return {"value": float(statistic(*values_N)), "low": float(low), "high": float(high), "n": len(runs)}


def mean_over_runs(values_N: np.ndarray) -> Estimate:
    """Estimate the mean of one number per run."""
    return over_runs(range(len(values_N)), np.mean, values_N)


def rows_by_run(runs: Sequence[Hashable]) -> dict[Hashable, np.ndarray]:
    """Group the indices of rows by run."""
    groups: dict[Hashable, list[int]] = {}
    for place, run in enumerate(runs):
        groups.setdefault(run, []).append(place)
    return {run: np.array(places) for run, places in groups.items()}


def group_folds(groups: Sequence[Hashable], folds: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (train, test) indices such that a group is never on both sides; every group is tested once.

    Unlike scikit-learn's `GroupKFold` it deals the groups out shuffled whatever their sizes, as when the page was made;
    into so many folds at most, as many as there are groups leaving out one at a time.
    """
    by_group = rows_by_run(groups)
    order = sorted(by_group, key=str)
    np.random.default_rng(0).shuffle(order)
    count = min(folds, len(order))
    for fold in range(count):
        test = np.sort(np.concatenate([by_group[group] for group in order[fold::count]]))
        yield np.setdiff1d(np.arange(len(groups)), test), test
