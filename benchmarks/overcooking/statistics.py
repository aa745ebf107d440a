"""The statistics of the proof: ranks, areas, intervals. Pure numpy and scipy, each checked against another.

Runs, not checkpoints, are the sample: checkpoints of one run resemble each other, so every interval comes
from drawing whole runs with replacement.

Letters: N checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata, spearmanr

DRAWS = 500
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval over runs; NaN where it is not defined."""

    value: float
    low: float
    high: float
    n: int  # checkpoints or runs that it was computed from


def auroc(scores_N: np.ndarray, positive_N: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counting half; NaN with one class only.

    Source: Mann and Whitney (1947); the area under the ROC curve.
    """
    positive_N = positive_N.astype(bool)
    positives, negatives = int(positive_N.sum()), int((~positive_N).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks_N = rankdata(scores_N)
    return float((ranks_N[positive_N].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def spearman(left_N: np.ndarray, right_N: np.ndarray) -> float:
    """Rank correlation; NaN when either does not vary or there are fewer than 3."""
    if len(left_N) < 3 or np.ptp(left_N) == 0 or np.ptp(right_N) == 0:
        return float("nan")
    return float(spearmanr(left_N, right_N).statistic)


def over_runs(
    runs: Sequence[Hashable],
    statistic: Callable[[np.ndarray], float],
    *,
    seed: int = 0,
    draws: int | None = None,
) -> Estimate:
    """Estimate a statistic and its percentile interval by drawing runs with replacement.

    Args:
        runs: per row, which run it belongs to.
        statistic: of the indices of rows, with repetitions; may be NaN, such draws are left out.
        seed: of the draws.
        draws: how many; `DRAWS` when None.
    """
    members = list(rows_by_run(runs).values())
    rng = np.random.default_rng(seed)
    everything = np.arange(len(runs))
    if not members:
        return Estimate(value=float("nan"), low=float("nan"), high=float("nan"), n=0)
    found = [
        statistic(np.concatenate([members[place] for place in rng.integers(len(members), size=len(members))]))
        for _ in range(DRAWS if draws is None else draws)
    ]
    finite = np.array([value for value in found if np.isfinite(value)])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(finite, [tail, 1 - tail]) if len(finite) else (float("nan"), float("nan"))
    return Estimate(value=statistic(everything), low=float(low), high=float(high), n=len(runs))


def rows_by_run(runs: Sequence[Hashable]) -> dict[Hashable, np.ndarray]:
    """Indices of the rows of each run."""
    groups: dict[Hashable, list[int]] = {}
    for place, run in enumerate(runs):
        groups.setdefault(run, []).append(place)
    return {run: np.array(places) for run, places in groups.items()}


def group_folds(groups: Sequence[Hashable], folds: int, *, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (train, test) indices such that a group is never on both sides; every group is tested once.

    Args:
        groups: per row.
        folds: at most; as many as there are groups leaves one group out at a time.
        seed: decides which groups share a fold.
    """
    by_group = rows_by_run(groups)
    order = sorted(by_group, key=str)
    np.random.default_rng(seed).shuffle(order)
    count = min(folds, len(order))
    for fold in range(count):
        test = np.concatenate([by_group[group] for group in order[fold::count]])
        train = np.setdiff1d(np.arange(len(groups)), test)
        yield train, np.sort(test)
