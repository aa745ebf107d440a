"""Is `done_at` a better place to stop than what people do? Regret in true utility, run by run.

Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.overcooking import areas, limits, scores, stoppers
from benchmarks.overcooking.following import MIN_RUNGS
from benchmarks.overcooking.statistics import group_folds, mean_over_runs
from benchmarks.overcooking.stoppers import Run, View
from benchmarks.overcooking.table import Checkpoint, by_run
from lorasweep.trial.judge.calibration import Calibration

USEFUL = 0.1  # true utility that a run must reach at some rung, or there is nothing to stop at
OURS = "done_at"
CALIBRATED = "done_at, limits from other identities"
BLIND = "done_at, limits from other identities, no reader"


def stopping(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Regret of every stopper over ended runs, and how much more it is than that of `done_at`, paired.

    Returns:
        `runs` and `never_useful` (counted apart), and by stopper `regret`, `more_than_ours` and
        `rungs_from_best`, each with its interval over runs.
    """
    ended = [rungs for rungs in by_run(checkpoints).values() if rungs[0].ended and len(rungs) >= MIN_RUNGS]
    runs = [rungs for rungs in ended if max(c.truth.utility for c in rungs) >= USEFUL]
    kept = _kept(runs, checkpoints)
    ours = _regrets(runs, kept[OURS])
    best = np.array([int(np.argmax([c.truth.utility for c in rungs])) for rungs in runs], dtype=float)
    table = {
        name: {
            "regret": mean_over_runs(_regrets(runs, places)),
            "more_than_ours": mean_over_runs(_regrets(runs, places) - ours),
            "rungs_from_best": mean_over_runs(np.abs(np.array(places, dtype=float) - best)),
        }
        for name, places in kept.items()
    }
    return {"runs": len(runs), "never_useful": len(ended) - len(runs), "stoppers": table}


def verdicts_agree(checkpoints: Sequence[Checkpoint]) -> float:
    """Share of ended runs of which product and truth say alike whether they burn; NaN without any."""
    ended = [rungs for rungs in by_run(checkpoints).values() if rungs[0].ended]
    said = [stoppers.product_verdict(rungs).burned_at is not None for rungs in ended]
    truly = [any(c.truth.overcooked for c in rungs) for rungs in ended]
    return float(np.mean(np.equal(said, truly))) if ended else math.nan


def _kept(runs: Sequence[Run], checkpoints: Sequence[Checkpoint]) -> dict[str, list[int]]:
    """Which rung each stopper keeps of each run."""
    others = {id(rungs): [other for other in runs if other is not rungs] for rungs in runs}
    seeing, blind = (_placed_elsewhere(checkpoints, view) for view in (dict, scores.blind))
    return {
        OURS: [stoppers.done_at(rungs) for rungs in runs],
        CALIBRATED: [stoppers.done_at(rungs, seeing.get(rungs[0].identity)) for rungs in runs],
        BLIND: [stoppers.done_at(rungs, blind.get(rungs[0].identity), view=scores.blind) for rungs in runs],
        "fixed steps": [stoppers.fixed_steps(rungs, others[id(rungs)]) for rungs in runs],
        **{name: [stop(rungs) for rungs in runs] for name, stop in stoppers.SIMPLE.items()},
    }


def _placed_elsewhere(checkpoints: Sequence[Checkpoint], view: View) -> dict[str, Calibration]:
    """By identity, limits placed on all others; nothing with one identity only."""
    identities = [c.identity for c in checkpoints]
    if len(set(identities)) < 2:
        return {}
    values, truth = limits.symptom_values([view(c.metrics) for c in checkpoints]), areas.labels(checkpoints)
    return {
        identities[int(test[0])]: limits.fit(values[train], truth[train]).calibration()
        for train, test in group_folds(identities, len(set(identities)))
    }


def _regrets(runs: Sequence[Run], places: Sequence[int]) -> np.ndarray:
    return np.array([stoppers.regret(rungs, place) for rungs, place in zip(runs, places, strict=True)])
