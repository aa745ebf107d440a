"""Which checkpoint of a run to keep: lorasweep's answer, and the simple answers it has to beat.

Each stopper takes a run's checkpoints, ascending, and returns the place of the one to keep. `fixed_steps`
alone also sees other runs, from which it learns the step that would have been best for them: the strongest
form of the habit "always 240 steps". Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from benchmarks.overcooking import scores
from benchmarks.overcooking.table import Checkpoint
from lorasweep.trial.judge import score, verdict
from lorasweep.trial.judge.calibration import Calibration
from lorasweep.trial.judge.verdict import Verdict

Run = Sequence[Checkpoint]
Stopper = Callable[[Run], int]
View = Callable[[Mapping[str, float]], dict[str, float]]

DVAR_WINDOW = 3  # rungs; the original's 200 losses are about a tenth to a quarter of its runs
DVAR_LIMIT = 0.15  # ratio of variances; the default of yandex-research/DVAR


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
    return _best([score.fidelity(checkpoint.metrics, scores.shipped()) for checkpoint in run])


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


SIMPLE: Final[dict[str, Stopper]] = {
    "validation loss": validation_loss,
    "DVAR": dvar,
    "last checkpoint": last,
    "best identity": best_identity,
}


def product_verdict(run: Run, calibration: Calibration | None = None, *, view: View = dict) -> Verdict:
    """Judge a run anew, as the product does.

    Args:
        run: its checkpoints.
        calibration: other limits than the shipped ones.
        view: what is seen of each checkpoint's metrics.
    """
    limits = calibration or scores.shipped()

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
