"""Which checkpoint of a run to keep, and which of two recipes: is lorasweep's choice better than what people do?

    stopping(checkpoints)  ->  regret in true utility of `done_at` and of simple stoppers
    ordering(checkpoints)  ->  share of pairs of runs that are ordered rightly, by U and by simpler numbers

Each stopper takes a run's checkpoints, ascending, and returns the place of the one to keep. `fixed_steps`
alone also sees other runs, from which it learns the step that would have been best for them: the strongest
form of the habit "always 240 steps".

Two runs are compared by the checkpoint that each keeps, as a leaderboard does, and by their last. Pairs are
within an identity, since one is easier to learn than another. Imports no torch. N runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from benchmarks.overcooking import areas, scores
from benchmarks.overcooking.areas import MIN_RUNGS, View
from benchmarks.overcooking.statistics import mean_over_runs, over_runs
from benchmarks.overcooking.table import Checkpoint, by_run
from lorasweep.plan.calibration import Calibration
from lorasweep.trial.judge import replicates, score, verdict
from lorasweep.trial.judge.verdict import Verdict

Run = Sequence[Checkpoint]

USEFUL = 0.1  # true utility that a run must reach at some rung, or there is nothing to stop at
OURS = "done_at"
CALIBRATED = "done_at, limits from other identities"
BLIND = "done_at, limits from other identities, no reader"
DVAR_WINDOW = 3  # rungs; the original's 200 losses are about a tenth to a quarter of its runs
DVAR_LIMIT = 0.15  # ratio of variances; the default of yandex-research/DVAR
Z = 1.96  # standard errors of a difference from which two runs are told apart
BY = {"U": score.UTILITY, "F": score.FIDELITY, "held-out loss": score.HELD_OUT}


def stopping(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Regret of every stopper over ended runs, and how much more it is than that of `done_at`, paired.

    Returns:
        `runs` and `never_useful` (counted apart); by stopper `regret`, `more_than_ours` and `rungs_from_best`, each
        with its interval over runs; `more` of the simple stoppers, and which of them are `beaten` and `unbeaten`.
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
    more = {name: row["more_than_ours"] for name, row in table.items() if not name.startswith(OURS)}
    beaten = [name for name in more if more[name]["low"] > 0]  # clearly: the interval is clear of 0
    unbeaten = {name: more[name] for name in more if name not in beaten}
    counts = {"runs": len(runs), "never_useful": len(ended) - len(runs)}
    return {**counts, "stoppers": table, "more": more, "beaten": beaten, "unbeaten": unbeaten}


def verdicts_agree(checkpoints: Sequence[Checkpoint]) -> float:
    """Share of ended runs of which product and truth say alike whether they burn; NaN without any."""
    ended = [rungs for rungs in by_run(checkpoints).values() if rungs[0].ended]
    said = [product_verdict(rungs).burned_at is not None for rungs in ended]
    truly = [any(c.truth.overcooked for c in rungs) for rungs in ended]
    return float(np.mean(np.equal(said, truly))) if ended else math.nan


def _kept(runs: Sequence[Run], checkpoints: Sequence[Checkpoint]) -> dict[str, list[int]]:
    """Which rung each stopper keeps of each run."""
    seeing, blind = (_placed_elsewhere(checkpoints, view) for view in (dict, scores.blind))
    return {
        OURS: [done_at(rungs) for rungs in runs],
        CALIBRATED: [done_at(rungs, seeing.get(rungs[0].identity)) for rungs in runs],
        BLIND: [done_at(rungs, blind.get(rungs[0].identity), view=scores.blind) for rungs in runs],
        "fixed steps": [fixed_steps(rungs, [other for other in runs if other is not rungs]) for rungs in runs],
        **{name: [stop(rungs) for rungs in runs] for name, stop in SIMPLE.items()},
    }


def _placed_elsewhere(checkpoints: Sequence[Checkpoint], view: View) -> dict[str, Calibration]:
    """By identity, limits placed on all others; nothing with one identity only."""
    identities = [c.identity for c in checkpoints]
    placed = areas.fitted_elsewhere(checkpoints, identities, view)
    return {identities[int(test[0])]: scores.calibration(limits) for limits, test, _ in placed}


def _regrets(runs: Sequence[Run], places: Sequence[int]) -> np.ndarray:
    return np.array([regret(rungs, place) for rungs, place in zip(runs, places, strict=True)])


def done_at(run: Run, calibration: Calibration | None = None, *, view: View = dict) -> int:
    """The product's verdict; where it finds no checkpoint done, the one with its best utility."""
    found = product_verdict(run, calibration, view=view)
    step = found.best_at if found.done_at is None else found.done_at
    return last(run) if step is None else [checkpoint.step for checkpoint in run].index(step)


def last(run: Run) -> int:
    """The end of training."""
    return len(run) - 1


def validation_loss(run: Run) -> int:
    """Lowest held-out loss on fixed noise."""
    losses = [checkpoint.metrics.get(score.HELD_OUT) for checkpoint in run]
    return _best([None if loss is None else -loss for loss in losses])


def best_identity(run: Run) -> int:
    """Most like the subject, as the product measures it."""
    return _best([score.fidelity(checkpoint.metrics, checkpoint.limits) for checkpoint in run])


def dvar(run: Run) -> int:
    """First rung at which the fixed-noise training loss varies little compared with the whole run so far.

    The last rung when it never settles.

    Source: Voronov et al., "Is This Loss Informative?" (arXiv 2302.04841), with rungs in the place of steps
    and the base, whose ratio is 1, as the first of them.
    """
    losses = [1.0, *(checkpoint.metrics.get("generalisation/train", np.nan) for checkpoint in run)]
    for place in range(DVAR_WINDOW, len(losses)):
        so_far = np.array(losses[: place + 1])
        if np.nanvar(so_far[-DVAR_WINDOW:]) < DVAR_LIMIT * np.nanvar(so_far):
            return place - 1
    return last(run)


def fixed_steps(run: Run, others: Sequence[Run]) -> int:
    """The step that was best on average for the other runs."""
    places = range(min(len(run), *(len(other) for other in others)) if others else len(run))
    means = [float(np.mean([other[place].truth.utility for other in others])) if others else 0.0 for place in places]
    return int(np.argmax(means))


SIMPLE: Final[dict[str, Callable[[Run], int]]] = {
    "validation loss": validation_loss,
    "DVAR": dvar,
    "last checkpoint": last,
    "best identity": best_identity,
}


def product_verdict(run: Run, calibration: Calibration | None = None, *, view: View = dict) -> Verdict:
    """Judge a run anew, as the product does, by the shipped limits or others, and by what is seen of metrics."""
    limits = calibration or run[0].limits

    def seen(metrics: Mapping[str, float]) -> dict[str, float]:
        return scores.rescored(view(metrics), limits)

    rungs = [
        {**c.rung, "metrics": seen(c.metrics), "replicates": [*map(seen, c.rung.get("replicates", ()))]} for c in run
    ]
    return verdict.of_rungs(rungs, limits)


def regret(run: Run, place: int) -> float:
    """How much true utility the kept checkpoint lacks of the best one of the run; in [-1, 1].

    Which one is best is said by one half of the witness's pictures, how much better it is by the other, both
    ways round. The best of several noisy numbers is too high, so that one witness alone would find a regret
    even in the perfect choice.
    """
    lacks = []
    for chooser, valuer in ((0, 1), (1, 0)):
        best = max(run, key=lambda checkpoint: checkpoint.halves[chooser].utility)
        lacks.append(best.halves[valuer].utility - run[place].halves[valuer].utility)
    return sum(lacks) / len(lacks)


def _best(values: Sequence[float | None]) -> int:
    """Place of the largest value, the earliest of equals; the last place when there is none."""
    known = [(value, -place) for place, value in enumerate(values) if value is not None]
    return -max(known)[1] if known else len(values) - 1


def ordering(checkpoints: Sequence[Checkpoint]) -> dict[str, dict[str, Any]]:
    """Estimate how often the better of two ended runs is known, by the kept and by the last checkpoint.

    Returns:
        By "kept" and "last": `pairs`; by number, the share of pairs that it orders as the truth does, with its
        interval over runs; `apart`, the pairs that the error of U tells apart, and `apart_rightly`, the share
        of these that are ordered rightly.
    """
    runs = [rungs for rungs in by_run(checkpoints).values() if rungs[0].ended]
    chosen = {"kept": [rungs[done_at(rungs)] for rungs in runs], "last": [rungs[-1] for rungs in runs]}
    return {name: _ordered(ones) for name, ones in chosen.items()}


def _ordered(chosen: Sequence[Checkpoint]) -> dict[str, Any]:
    truth_N = np.array([c.truth.utility for c in chosen])
    identity_N = np.array([c.identity for c in chosen])
    numbers = {name: np.array([c.metrics.get(key, math.nan) for c in chosen]) for name, key in BY.items()}
    numbers["held-out loss"] *= -1
    error_N = np.array([_error(c) for c in chosen])
    apart = _rightly(numbers["U"], truth_N, identity_N, error_N)
    shares = {
        name: over_runs(range(len(chosen)), lambda *rows: _mean(_rightly(*rows)), values_N, truth_N, identity_N)
        for name, values_N in numbers.items()
    }
    pairs = len(_rightly(truth_N, truth_N, identity_N))
    return {"pairs": pairs, **shares, "apart": len(apart), "apart_rightly": _mean(apart)}


def _rightly(
    values_N: np.ndarray, truth_N: np.ndarray, identity_N: np.ndarray, error_N: np.ndarray | None = None
) -> np.ndarray:
    """Say of each pair that truly differs, and that the error tells apart: 1 is right, 0.5 the number is silent."""
    by_truth, by_number = (each[:, None] - each[None] for each in (truth_N, values_N))
    pairs = np.triu((identity_N[:, None] == identity_N[None]) & (by_truth != 0))
    if error_N is not None:
        pairs &= np.abs(by_number) > Z * np.hypot(error_N[:, None], error_N[None])
    return (np.sign(by_truth[pairs]) * np.sign(by_number[pairs]) + 1) / 2


def _error(checkpoint: Checkpoint) -> float:
    """Standard error of U; infinite where it is not known."""
    parts = [scores.rescored(part, checkpoint.limits) for part in checkpoint.rung.get("replicates", ())]
    error = replicates.standard_error(parts, score.UTILITY) if parts else None
    return math.inf if error is None else error


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan
