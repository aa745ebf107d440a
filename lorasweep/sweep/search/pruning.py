"""Whether a trial goes on after a rung, and what that saved and cost. Its unit of time is exposures per image.

The decision is that of Optuna's pruner, on a study in memory that holds what was reported so far: one study
per power of ten of the learning rate, so that a slow learner is measured against slow learners. A share of
the trials, drawn by lot, runs its course whatever is said of it: what pruning costs is known from them. What was
judged by an earlier driver is heard again from the rungs in the run folders, so that a continued sweep decides as an
uninterrupted one does. Knows nothing about workers or the sweep's own study.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, PatientPruner, SuccessiveHalvingPruner
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import TrialState

from lorasweep.config.sweep_spec import Goal, PrunerOptions
from lorasweep.core import seeds
from lorasweep.core.files import write_json
from lorasweep.core.records import Recipe, Status, to_dict
from lorasweep.core.run_folder import PRUNING_FILE
from lorasweep.sweep.queue import Trial, in_exposures
from lorasweep.trial.judge import score

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec


LOTS = 10**6
SNAP = 0.1  # rungs of two trials whose exposures differ by no more than this share are one rung
_ENDS = {Status.COMPLETED: TrialState.COMPLETE, Status.PRUNED: TrialState.PRUNED}
ROUNDING = 1e-9  # log10(1e-4) is not exactly -4 everywhere


def is_exempt(options: PrunerOptions, number: int) -> bool:
    """Draw the lot of a trial; the same on every machine and in every attempt."""
    return options.active and seeds.derive(0, "exempt", number) % LOTS < options.exempt * LOTS


def decade_of(recipe: Recipe) -> int | None:
    """Return the power of ten of a recipe's learning rate (-4 for 2e-4); None when it has none."""
    lr = recipe.optimizer.options.get("lr")
    if not isinstance(lr, int | float) or lr <= 0:
        return None
    return math.floor(math.log10(lr) + ROUNDING)


def make_pruner(options: PrunerOptions, *, first: int, last: int) -> BasePruner:
    """Make Optuna's pruner; exposures per image are `first` at the first rung and `last` at the budget's end."""
    begin = options.min_exposures or first
    median = MedianPruner(n_startup_trials=options.startup, n_warmup_steps=begin)
    match options.name:
        case "median":
            return median
        case "patient":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # for ten years now
                return PatientPruner(median, patience=options.patience)
        case "successive_halving":
            return SuccessiveHalvingPruner(min_resource=begin, reduction_factor=options.factor)
        case "hyperband":
            return HyperbandPruner(min_resource=begin, max_resource=max(begin, last), reduction_factor=options.factor)
        case "none":
            return NopPruner()


class RungPruner:
    """Hears the rungs of all trials and says who stops."""

    def __init__(self, options: PrunerOptions, *, metric: str, goal: Goal) -> None:
        """Start with nothing heard; the pruner's own metric and goal win over the sweep's."""
        self._options = options
        self.metric = options.metric or metric
        self._goal = options.goal or goal
        self._studies: dict[int | None, Study] = {}
        self._running: dict[int, optuna.Trial] = {}

    def rung(self, number: int, decade: int | None, *, exposures: float, last: float, value: float) -> str:
        """Hear of a trial's rung; returns why it should stop, empty when it should go on.

        `decade` is `decade_of` its recipe; `exposures` are per image so far, `last` when its budget is spent; the value
        of the metric is finite.
        """
        decade = decade if self._options.decades else None
        if number not in self._running:
            study = self._study(decade, first=in_exposures(exposures), last=in_exposures(last))
            self._running[number] = study.ask()
        trial = self._running[number]
        step = _snapped(trial, in_exposures(exposures))
        value = self._in_hand(trial, value)
        if step not in _reported(trial):  # of rungs less than an exposure apart the first one counts
            trial.report(value, step)
        if not trial.should_prune():
            return ""
        among = "" if decade is None else f" among learning rates of 1e{decade}"
        best = "" if self._options.name == "patient" else "at best "
        return f"{self.metric} {best}{value:.3f} by {step} exposures per image is behind{among} ({self._options.name})"

    def _in_hand(self, trial: optuna.Trial, value: float) -> float:
        """Return the best rung so far: a trial keeps its best checkpoint, so one past its best is not behind.

        Patience asks whether a trial still gets better, so it hears the rung itself.
        """
        if self._options.name == "patient":
            return value
        return (max if self._goal == "maximize" else min)([value, *_reported(trial).values()])

    def ended(self, number: int, status: Status) -> None:
        """Hear how a trial ended for good; one that never reached a rung is not known."""
        if number not in self._running:
            return
        trial = self._running.pop(number)
        reported = _reported(trial)
        state = _ENDS.get(status, TrialState.FAIL)
        trial.study.tell(trial, reported[max(reported)] if state is TrialState.COMPLETE else None, state=state)

    def _study(self, decade: int | None, *, first: int, last: int) -> Study:
        if decade not in self._studies:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            self._studies[decade] = optuna.create_study(
                study_name=f"decade {decade}",  # Hyperband's brackets are drawn from it
                direction=self._goal,
                sampler=RandomSampler(seed=0),
                pruner=make_pruner(self._options, first=first, last=last),
            )
        return self._studies[decade]


def _snapped(trial: optuna.Trial, step: int) -> int:
    """Return the rung that others reported nearly there, so that budgets a few images apart still compare."""
    others = (each for each in trial.study.get_trials(deepcopy=False) if each.number != trial.number)
    known = {rung for each in others for rung in each.intermediate_values}
    near = min(known, key=lambda each: abs(each - step), default=step)
    return near if abs(near - step) <= SNAP * step else step


def _reported(trial: optuna.Trial) -> dict[int, float]:
    """Return what a trial has reported so far, by exposures per image."""
    reported: dict[int, float] = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
    return reported


class PruningGate:
    """Judges the rungs of one sweep."""

    def __init__(self, spec: SweepSpec, trials: Iterable[Trial], *, left_out: Collection[str] = ()) -> None:
        """Hear again what was judged before."""
        self._left_out = left_out
        self._answers: dict[tuple[int, float], str] = {}  # by trial and rung: why it should stop, or nothing
        self._options = spec.pruner
        self._pruner = RungPruner(spec.pruner, metric=spec.metric, goal=spec.goal)
        # In the order in which they began, as far as anybody knows.
        for trial in sorted(trials, key=lambda each: each.record.started_at or math.inf):
            self.hear_again(trial)

    def hear_again(self, trial: Trial) -> None:
        """Hear what was judged by an earlier driver or in another sweep; a duplicate is its original, heard already."""
        reused = trial.record.reused_from
        if not self._options.active or (reused and "/" not in reused):
            return
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
        """Write pruning.json: what was saved of what was cooked here, and how those that the lot spared have ended."""
        here = [trial for trial in trials if not trial.record.reused_from]
        began = [trial for trial in here if trial.record.status.is_final and trial.rungs]
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
