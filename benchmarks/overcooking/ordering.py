"""Of two recipes for one character, does the score put the truly better one first? Imports no torch.

    ordering(checkpoints)  ->  share of pairs of runs that are ordered rightly, by U and by simpler numbers

Two runs are compared by the checkpoint that each keeps, as a leaderboard does, and by their last. Pairs are
within an identity, since one is easier to learn than another. N runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.overcooking import scores, stopping
from benchmarks.overcooking.statistics import over_runs
from benchmarks.overcooking.table import Checkpoint, by_run
from lorasweep.trial.judge import replicates, score

Z = 1.96  # standard errors of a difference from which two runs are told apart
BY = {"U": score.UTILITY, "F": score.FIDELITY, "held-out loss": score.HELD_OUT}


def ordering(checkpoints: Sequence[Checkpoint]) -> dict[str, dict[str, Any]]:
    """Estimate how often the better of two ended runs is known, by the kept and by the last checkpoint.

    Returns:
        By "kept" and "last": `pairs`; by number, the share of pairs that it orders as the truth does, with its
        interval over runs; `apart`, the pairs that the error of U tells apart, and `apart_rightly`, the share
        of these that are ordered rightly.
    """
    runs = [rungs for rungs in by_run(checkpoints).values() if rungs[0].ended]
    chosen = {
        "kept": [rungs[stopping.done_at(rungs)] for rungs in runs],
        "last": [rungs[-1] for rungs in runs],
    }
    return {name: _ordered(ones) for name, ones in chosen.items()}


def _ordered(chosen: Sequence[Checkpoint]) -> dict[str, Any]:
    metrics = [scores.rescored(c.metrics, c.limits) for c in chosen]
    truth_N = np.array([c.truth.utility for c in chosen])
    identity_N = np.array([c.identity for c in chosen])
    numbers = {name: np.array([each.get(key, math.nan) for each in metrics]) for name, key in BY.items()}
    numbers["held-out loss"] *= -1
    error_N = np.array([_error(c) for c in chosen])

    def right(values_N: np.ndarray, rows: np.ndarray, *, sure: bool = False) -> np.ndarray:
        """Per pair: 1 where both say the same, 0.5 where the number says nothing."""
        same = identity_N[rows][:, None] == identity_N[rows][None]
        by_truth, by_number = (_differences(each[rows]) for each in (truth_N, values_N))
        pairs = np.triu(same & (by_truth != 0))
        if sure:
            pairs &= np.abs(by_number) > Z * np.hypot(error_N[rows][:, None], error_N[rows][None])
        return (np.sign(by_truth[pairs]) * np.sign(by_number[pairs]) + 1) / 2

    every = np.arange(len(chosen))
    apart = right(numbers["U"], every, sure=True)
    shares = {
        name: over_runs(range(len(chosen)), lambda rows, values_N=values_N: _mean(right(values_N, rows)))  # type: ignore[misc]
        for name, values_N in numbers.items()
    }
    return {"pairs": len(right(truth_N, every)), **shares, "apart": len(apart), "apart_rightly": _mean(apart)}


def _error(checkpoint: Checkpoint) -> float:
    """Standard error of U; infinite where it is not known."""
    parts = [scores.rescored(part, checkpoint.limits) for part in checkpoint.rung.get("replicates", ())]
    error = replicates.standard_error(parts, score.UTILITY) if parts else None
    return math.inf if error is None else error


def _differences(values_N: np.ndarray) -> np.ndarray:
    return values_N[:, None] - values_N[None]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan
