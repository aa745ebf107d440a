"""The gate at every rung: whether a trial of the driver's goes on, and what that saved and cost.

Takes the driver's trials; writes pruning.json. What was judged by an earlier driver is heard again from the
rungs in the run folders, so that a continued sweep decides as an uninterrupted one does. Knows nothing about
workers or Optuna's pruners (`pruning`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.core.files import write_json
from lorasweep.core.records import Status, to_dict
from lorasweep.core.run_folder import PRUNING_FILE
from lorasweep.sweep.queue import Trial
from lorasweep.sweep.search.pruning import RungPruner, decade_of
from lorasweep.trial.judge import score

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec


class PruningGate:
    """Judges the rungs of one sweep."""

    def __init__(self, spec: SweepSpec, trials: Iterable[Trial], *, left_out: Collection[str] = ()) -> None:
        """Hear again what was judged before."""
        self._left_out = left_out
        self._answers: dict[tuple[int, float], str] = {}  # by trial and rung: why it should stop, or nothing
        self._options = spec.pruner
        self._pruner = RungPruner(spec.pruner, metric=spec.metric, goal=spec.goal)
        if spec.pruner.active:
            # In the order in which they began, as far as anybody knows.
            for trial in sorted(trials, key=lambda each: each.record.started_at or math.inf):
                for exposures in sorted(trial.rungs):
                    self._heard(trial, exposures)
                if trial.record.status.is_final:
                    self.ended(trial)

    def rung(self, trial: Trial) -> bool:
        """Hear of the rung that a trial has just noted; returns whether it goes on.

        A trial that lost its worker at a rung comes back and asks again: it gets the same answer.
        """
        if not self._options.active:
            return True
        why = self._heard(trial, max(trial.rungs))
        if not why or trial.step >= trial.record.steps:
            return True
        if trial.record.exempt:
            trial.record = dataclasses.replace(trial.record, spared=trial.record.spared or why)
            return True
        trial.stopped = why
        return False

    def ended(self, trial: Trial) -> None:
        """Hear that a trial will not be touched again."""
        if self._options.active:
            self._pruner.ended(trial.number, trial.record.status)

    def _heard(self, trial: Trial, exposures: float) -> str:
        asked = trial.number, exposures
        if asked not in self._answers:
            self._answers[asked] = self._judged(trial, exposures)
        return self._answers[asked]

    def _judged(self, trial: Trial, exposures: float) -> str:
        value = score.without(trial.rungs[exposures], self._left_out).get(self._pruner.metric)
        if value is None or not math.isfinite(value):
            return ""
        assert trial.recipe is not None and trial.plan is not None, "only a recipe is judged"
        return self._pruner.rung(
            trial.number, decade_of(trial.recipe), exposures=exposures, last=trial.plan.exposures_per_image, value=value
        )

    def write_summary(self, folder: Path, trials: Sequence[Trial]) -> None:
        """Write pruning.json: what was saved, and how those that the lot spared have ended."""
        began = [trial for trial in trials if trial.record.status.is_final and trial.rungs]
        pruned = [trial.record for trial in began if trial.record.status is Status.PRUNED]
        data = {
            "pruner": to_dict(self._options),
            "pruned": len(pruned),
            "spent_steps": sum(trial.record.step for trial in began),
            "saved_steps": sum(record.steps - record.step for record in pruned),
            "exempt": sum(trial.record.exempt for trial in began),
            "spared": [
                {"number": trial.number, "arm": trial.record.arm, "value": trial.record.value}
                for trial in began
                if trial.record.spared
            ],
        }
        write_json(folder / PRUNING_FILE, data)
