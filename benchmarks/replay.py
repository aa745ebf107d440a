"""What a pruner would have saved and cost: trials that ran their course, judged again from their rungs.

    Course   what one fully trained trial showed at its rungs, and how it ended
    replay   the steps that a pruner would have saved on them, and the best value it would have lost

The trials are replayed one after the other in their order, as one worker would have cooked them. Knows
nothing about run folders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lorasweep.config.sweep_spec import Goal, PrunerOptions
from lorasweep.core.records import Status
from lorasweep.sweep.search.pruning import RungPruner


@dataclass(frozen=True, kw_only=True)
class Course:
    """A trial that ran its course."""

    number: int
    decade: int | None  # power of ten of the learning rate
    steps: int  # optimizer steps of its budget
    exposures: float  # per image, of its budget
    rungs: tuple[tuple[float, float], ...]  # (exposures per image, the pruner's metric), ascending
    value: float  # the sweep's metric at the end


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a pruner would have done."""

    pruner: str
    trials: int  # that ran their course
    pruned: int  # of them, that it would have stopped
    steps: int  # trained in all
    saved_steps: int  # of them, that it would have saved
    best: float | None  # value of the best trial
    best_kept: float | None  # of those that it would have let finish
    lost: float | None  # how much worse that is; 0 when the best one was kept

    def __str__(self) -> str:
        share = self.saved_steps / self.steps if self.steps else 0.0
        cost = "nothing was left" if self.lost is None else f"best value lost {self.lost:.3f}"
        return f"{self.pruner}: {self.pruned} of {self.trials} stopped, {share:.0%} of the steps saved, {cost}"


def replay(courses: Sequence[Course], options: PrunerOptions, *, metric: str, goal: Goal) -> Replay:
    """Judge fully trained trials again, without exemptions.

    Args:
        courses: in the order in which they were cooked.
        options: the pruner.
        metric: the sweep's.
        goal: which way that is better.
    """
    pruner = RungPruner(options, metric=metric, goal=goal)
    spent, kept, stopped = 0, [], 0
    for course in courses:
        steps = _steps_until_stopped(course, pruner)
        pruner.ended(course.number, Status.COMPLETED if steps is None else Status.PRUNED)
        spent += course.steps if steps is None else steps
        if steps is None:
            kept.append(course.value)
        else:
            stopped += 1
    better = max if goal == "maximize" else min
    best = better((course.value for course in courses), default=None)
    best_kept = better(kept, default=None)
    total = sum(course.steps for course in courses)
    return Replay(
        pruner=options.name,
        trials=len(courses),
        pruned=stopped,
        steps=total,
        saved_steps=total - spent,
        best=best,
        best_kept=best_kept,
        lost=None if best is None or best_kept is None else abs(best - best_kept),
    )


def _steps_until_stopped(course: Course, pruner: RungPruner) -> int | None:
    """The step at which a pruner stops it; None when it runs its course. The last rung stops nobody."""
    for exposures, value in course.rungs:
        why = pruner.rung(course.number, course.decade, exposures=exposures, last=course.exposures, value=value)
        if why and exposures < course.exposures:
            return round(course.steps * exposures / course.exposures)
    return None
