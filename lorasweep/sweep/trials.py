"""All trials of a sweep, and where further ones come from: points of its space, repeats of its arms.

    Roster.ask()             the next point of the space, once per seed, until the declared total
    Roster.repeat(arm, seed) one more seed for an arm or a point, beyond that total

Whatever is added is written down (asked.jsonl) before anybody hears of it. Knows nothing about workers.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.config.space import Point
from lorasweep.core.records import Plan, Recipe
from lorasweep.core.run_folder import SweepFolder
from lorasweep.plan import for_seed
from lorasweep.sweep import added_trials
from lorasweep.sweep.manifest import Manifest
from lorasweep.sweep.queue import Trial
from lorasweep.sweep.resume import Compose, made, new_record
from lorasweep.sweep.search.pruning import is_exempt
from lorasweep.sweep.search.study import SweepStudy

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec


class Roster:
    """The driver's list of trials; `trials` grows while it is looked at.

    Attributes:
        trials: all there are.
        left_out: symptoms that they are compared without, each with the reason.
    """

    def __init__(
        self,
        spec: SweepSpec,
        folder: Path,
        manifest: Manifest,
        trials: list[Trial],
        study: SweepStudy,
        compose: Compose,
    ) -> None:
        self.trials = trials
        self._spec, self._folder, self._study, self._compose = spec, folder, study, compose
        self.left_out = manifest.left_out
        self._counted = sum(not trial.extra for trial in manifest.trials)
        self._points = sum(arm.asked for arm in manifest.arms)

    @property
    def open(self) -> bool:
        """Whether the space has further points to be asked for."""
        return self._spec.search is not None and self._counted < self._spec.total

    @property
    def done(self) -> bool:
        """Whether every trial has its end, and no further one is to be asked for."""
        return not self.open and all(trial.record.status.is_final for trial in self.trials)

    def ask(self) -> list[Trial]:
        """Ask for one point; returns its trials, one per seed as far as the total goes.

        Trials of a point that cannot be composed or planned are INVALID, with the reason.
        """
        search = self._spec.search
        assert search is not None, "there is nothing to ask for without a space"
        number = self._next_number()
        point = self._point(number)
        recipe, plan, reason = made(self._compose, point.overrides)
        name = search.name(self._points, point)
        seeds = self._spec.seeds[: self._spec.total - self._counted]
        row = added_trials.Asked(
            number=number,
            arm=name,
            seeds=tuple(seeds),
            overrides=point.overrides,
            params=dict(point.params),
            plan="" if plan is None else plan.fingerprint,
        )
        added_trials.append(self._folder, row)
        self._study.know(name, point.params)
        self._points += 1
        self._counted += len(seeds)
        return [
            self._add(number + offset, name, seed, recipe, plan, point.overrides, reason)
            for offset, seed in enumerate(seeds)
        ]

    def repeat(self, arm: str, seed: int) -> Trial:
        """Give an arm or a point one more seed.

        Raises:
            ValueError: there is no such arm, or it has that seed already.
        """
        known = [trial for trial in self.trials if trial.record.arm == arm]
        if not known or any(trial.record.seed == seed for trial in known):
            raise ValueError(f"arm {arm!r} cannot be given seed {seed}")
        first, number = known[0], self._next_number()
        added_trials.append(self._folder, added_trials.Asked(number=number, arm=arm, seeds=(seed,)))
        return self._add(number, arm, seed, first.recipe, first.plan, first.overrides)

    def _point(self, number: int) -> Point:
        search = self._spec.search
        assert search is not None
        if search.sampler.name == "grid":
            return next(itertools.islice(search.space.grid(), self._points, None))
        return self._study.ask(number, self._points)

    def _add(
        self,
        number: int,
        arm: str,
        seed: int,
        recipe: Recipe | None,
        plan: Plan | None,
        overrides: tuple[str, ...],
        reason: str = "",
    ) -> Trial:
        if recipe is not None and plan is not None:
            recipe, plan = for_seed(recipe, plan, seed)
        exempt = is_exempt(self._spec.pruner, number)
        record = new_record(number, arm, seed, recipe, plan, exempt=exempt, reason=reason)
        folder = SweepFolder(self._folder).run(number, arm, seed).path
        trial = Trial(record=record, recipe=recipe, plan=plan, folder=folder, overrides=overrides)
        self.trials.append(trial)
        return trial

    def _next_number(self) -> int:
        return max((trial.number for trial in self.trials), default=-1) + 1
