"""All trials of a sweep, and where further ones come from: points of its space, repeats of its arms.

    TrialSource.ask()             the next point of the space, once per seed, until the declared total
    TrialSource.repeat(arm, seed) one more seed for an arm or a point, beyond that total

Whatever is added is written down (asked.jsonl) before anybody hears of it. Knows nothing about workers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.core.errors import InputError
from lorasweep.core.records import Plan, Recipe, Status
from lorasweep.core.run_folder import SweepFolder, TrialRecord
from lorasweep.plan import for_seed
from lorasweep.sweep import manifest
from lorasweep.sweep.manifest import Manifest
from lorasweep.sweep.queue import Trial
from lorasweep.sweep.retry import one_line
from lorasweep.sweep.search.pruning import is_exempt
from lorasweep.sweep.search.study import SweepStudy

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec
    from lorasweep.config.space import Point, Space

Compose = Callable[[Sequence[str]], tuple[Recipe, Plan]]


@dataclass(frozen=True)
class Composed:
    """What an arm or a point of the space makes; no recipe and no plan, when `reason` says why there are none."""

    recipe: Recipe | None
    plan: Plan | None
    reason: str = ""


def compose_point(compose: Compose, overrides: Sequence[str]) -> Composed:
    """Compose and plan a point of the space."""
    try:
        return Composed(*compose(overrides))
    except InputError as error:
        return Composed(None, None, one_line(error))


def new_trial(
    spec: SweepSpec,
    sweep_folder: Path,
    number: int,
    arm: str,
    seed: int,
    composed: Composed,
    overrides: tuple[str, ...],
) -> Trial:
    """Make a trial that nobody has begun: WAITING, or INVALID when there is no recipe."""
    recipe, plan = composed.recipe, composed.plan
    if recipe is not None and plan is not None:
        recipe, plan = for_seed(recipe, plan, seed)
    record = TrialRecord(
        number=number,
        arm=arm,
        seed=seed,
        status=Status.INVALID if plan is None else Status.WAITING,
        fingerprint="" if plan is None else plan.fingerprint,
        steps=0 if plan is None else plan.steps,
        attempt=0,
        reason=composed.reason,
        exempt=is_exempt(spec.pruner, number),
        ended_at=time.time() if plan is None else None,
    )
    folder = SweepFolder(sweep_folder).run(number, arm, seed).path
    return Trial(record=record, recipe=recipe, plan=plan, folder=folder, overrides=overrides)


class TrialSource:
    """The driver's trials, and where further ones come from.

    Attributes:
        study: what learns from them; a single run has none.
        trials: all there are; grows while it is looked at.
        left_out: symptoms that they are compared without, each with the reason.
    """

    def __init__(
        self,
        spec: SweepSpec,
        folder: Path,
        manifest: Manifest,
        trials: list[Trial],
        study: SweepStudy | None,
        compose: Compose,
    ) -> None:
        self.spec, self.folder, self.study, self.trials = spec, folder, study, trials
        self._compose = compose
        self.left_out = manifest.left_out
        self._counted = sum(not trial.extra for trial in manifest.trials)
        self._points = sum(arm.asked for arm in manifest.arms)
        search = spec.search
        is_grid = search is not None and search.sampler.name == "grid"
        self._grid = deque(self._lacking(search.space, manifest)) if search is not None and is_grid else None

    @property
    def open(self) -> bool:
        """Whether the space has further points to be asked for."""
        return self.spec.search is not None and self._counted < self.spec.total and self._grid != deque()

    @property
    def done(self) -> bool:
        """Whether every trial has its end, and no further one is to be asked for."""
        return not self.open and all(trial.record.status.is_final for trial in self.trials)

    def ask(self) -> list[Trial]:
        """Ask for one point; returns its trials, one per seed as far as the total goes.

        Trials of a point that cannot be composed or planned are INVALID, with the reason.
        """
        search = self.spec.search
        assert search is not None and self.study is not None, "there is nothing to ask for without a space"
        number = self._next_number()
        if self._grid is not None:
            point, known, seeds = self._grid.popleft()
        else:
            point, known, seeds = self.study.ask(number, self._points), "", self.spec.seeds
        composed = compose_point(self._compose, point.overrides)
        name = known or search.name(self._points, point)
        seeds = seeds[: self.spec.total - self._counted]
        row = manifest.AddedTrials(
            number=number,
            arm=name,
            seeds=seeds,
            overrides=point.overrides,
            params=dict(point.params),
            plan="" if composed.plan is None else composed.plan.fingerprint,
        )
        manifest.append(self.folder, row)
        self.study.know(name, point.params)
        self._points += not known
        self._counted += len(seeds)
        return [self._add(number + offset, name, seed, composed, point.overrides) for offset, seed in enumerate(seeds)]

    def _lacking(self, space: Space, manifest: Manifest) -> Iterator[tuple[Point, str, tuple[int, ...]]]:
        """Yield the points of a grid that lack seeds, with names and those: one that grew has some before its last."""
        names = {
            frozenset(arm.params.items()): arm.name for arm in manifest.arms if arm.asked and arm.params is not None
        }
        taken: dict[str, set[int]] = {}
        for trial in self.trials:
            taken.setdefault(trial.record.arm, set()).add(trial.record.seed)
        for point in space.grid():
            name = names.get(frozenset(point.params.items()), "")
            if seeds := tuple(seed for seed in self.spec.seeds if seed not in taken.get(name, ())):
                yield point, name, seeds

    def repeat(self, arm: str, seed: int) -> Trial:
        """Give an arm or a point one more seed.

        Raises:
            ValueError: there is no such arm, or it has that seed already.
        """
        known = [trial for trial in self.trials if trial.record.arm == arm]
        if not known or any(trial.record.seed == seed for trial in known):
            raise ValueError(f"arm {arm!r} cannot be given seed {seed}")
        first, number = known[0], self._next_number()
        manifest.append(self.folder, manifest.AddedTrials(number=number, arm=arm, seeds=(seed,)))
        return self._add(number, arm, seed, Composed(first.recipe, first.plan), first.overrides)

    def _add(self, number: int, arm: str, seed: int, composed: Composed, overrides: tuple[str, ...]) -> Trial:
        self.trials.append(new_trial(self.spec, self.folder, number, arm, seed, composed, overrides))
        return self.trials[-1]

    def _next_number(self) -> int:
        return max((trial.number for trial in self.trials), default=-1) + 1
