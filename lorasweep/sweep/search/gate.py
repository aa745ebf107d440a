"""The gate at every rung: whether a trial of the driver's goes on, and what that saved and cost.

Takes the driver's trials; writes pruning.json. What was judged by an earlier driver is heard again from the
rungs in the run folders, so that a continued sweep decides as an uninterrupted one does. Knows nothing about
workers or Optuna's pruners (`pruning`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from lorasweep.config.sweep_search import PrunerOptions
from lorasweep.core.files import write_json
from lorasweep.core.records import Status, to_dict
from lorasweep.core.run_folder import PRUNING_FILE
from lorasweep.sweep.queue import Trial
from lorasweep.sweep.search.pruning import Judge, decade_of
from lorasweep.sweep.search.replay import Course, replay, to_json
from lorasweep.trial.judge import score

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec

# What would each of them have done? Asked of trials that ran their course, while that takes seconds.
COMPARED = ("median", "successive_halving", "hyperband", "patient")
MOST_COMPARED = 300
_ENDS = {Status.COMPLETED: TrialState.COMPLETE, Status.PRUNED: TrialState.PRUNED}


class Gate:
    """Judges the rungs of one sweep."""

    def __init__(self, spec: SweepSpec, trials: Iterable[Trial], *, left_out: Collection[str] = ()) -> None:
        """Hear again what was judged before.

        Args:
            spec: names the pruner.
            trials: as they were found.
            left_out: symptoms that trials are compared without.
        """
        self._left_out = left_out
        self._answers: dict[tuple[int, float], str] = {}  # by trial and rung: why it should stop, or nothing
        self._options, self._metric, self._goal = spec.pruner, spec.metric, spec.goal
        self._judge = Judge(spec.pruner, metric=spec.metric, goal=spec.goal)
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
            spared = trial.record.spared or why
            trial.record = dataclasses.replace(trial.record, spared=spared)
            return True
        trial.stopped = why
        return False

    def ended(self, trial: Trial) -> None:
        """Hear that a trial will not be touched again."""
        if self._options.active:
            self._judge.ended(trial.number, _ENDS.get(trial.record.status, TrialState.FAIL))

    def _heard(self, trial: Trial, exposures: float) -> str:
        asked = trial.number, exposures
        if asked not in self._answers:
            self._answers[asked] = self._judged(trial, exposures)
        return self._answers[asked]

    def _judged(self, trial: Trial, exposures: float) -> str:
        value = self._compared(trial.rungs[exposures]).get(self._judge.metric)
        if value is None or not math.isfinite(value):
            return ""
        assert trial.recipe is not None and trial.plan is not None, "only a recipe is judged"
        return self._judge.rung(
            trial.number,
            decade_of(trial.recipe),
            exposures=exposures,
            last=trial.plan.exposures_per_image,
            value=value,
        )

    def _compared(self, metrics: Mapping[str, float]) -> dict[str, float]:
        return score.without(metrics, self._left_out)

    def write_summary(self, folder: Path, trials: Sequence[Trial]) -> None:
        """Write pruning.json: what was saved, what it may have cost, what other pruners would have done."""
        began = [trial for trial in trials if trial.record.status.is_final and trial.rungs]
        pruned = [trial for trial in began if trial.record.status is Status.PRUNED]
        data: dict[str, Any] = {
            "pruner": to_dict(self._options),
            "pruned": len(pruned),
            "spent_steps": sum(trial.record.step for trial in began),
            "saved_steps": sum(trial.record.steps - trial.record.step for trial in pruned),
            "exempt": sum(trial.record.exempt for trial in began),
            "spared": [
                {"number": trial.number, "arm": trial.record.arm, "value": trial.record.value}
                for trial in began
                if trial.record.spared
            ],
            "replay": self._replays(began),
        }
        write_json(folder / PRUNING_FILE, data)

    def _replays(self, trials: Sequence[Trial]) -> list[dict[str, Any]]:
        """Every pruner over the trials that ran their course; of a pruned sweep, those are the survivors."""
        metric = self._judge.metric
        courses = [
            Course(
                number=trial.number,
                decade=decade_of(trial.recipe),
                steps=trial.record.steps,
                exposures=trial.plan.exposures_per_image,
                rungs=tuple(
                    (at, value)
                    for at, each in sorted(trial.rungs.items())
                    if (value := self._compared(each).get(metric)) is not None
                ),
                value=trial.record.value,
            )
            for trial in trials
            if trial.recipe is not None and trial.plan is not None
            if trial.record.status is Status.COMPLETED and trial.record.value is not None
        ]
        if len(courses) < 2 or len(courses) > MOST_COMPARED:
            return []
        options = [self._options] if self._options.active else []
        names = {each.name for each in options}
        options += [PrunerOptions(name=name) for name in COMPARED if name not in names]  # type: ignore[arg-type]
        return [to_json(replay(courses, each, metric=self._metric, goal=self._goal)) for each in options]
