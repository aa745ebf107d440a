"""The records of a sweep: a question, checked; its arms, and the space that is searched.

Knows nothing about files or about running trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lorasweep.config.space import Label, Point, Space
from lorasweep.config.sweep_search import Constraint, Goal, Objective, PrunerOptions, SamplerOptions
from lorasweep.core.records import LauncherOptions, Recipe, TrackingOptions


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A named recipe, compared side by side with the others.

    Attributes:
        name: short, a part of folder names.
        note: what it is there for.
        overrides: what makes it differ from the sweep's common recipe, as `KEY=VALUE`s.
        recipe: fully resolved, with the recipe's own seed; a trial replaces it by one of the sweep's.
        params: where it lies in the sweep's space, so that the search learns from it; None: outside of it.
    """

    name: str
    note: str
    overrides: tuple[str, ...]
    recipe: Recipe
    params: Mapping[str, Label] | None = None


@dataclass(frozen=True, kw_only=True)
class Search:
    """The space of a sweep and how it is searched.

    Attributes:
        space: what is searched.
        total: how many trials there will be in all, arms and repeats included.
        sampler, pruner: who chooses points, who stops trials.
        common: overrides of every point, applied before its own.
        overrides: the command line's, applied after.
        corners: recipes at the edge of the space, all of them valid; at least one.
        warnings: what people should know about the space before it is searched.
    """

    space: Space
    total: int
    sampler: SamplerOptions
    common: tuple[str, ...]
    overrides: tuple[str, ...]
    corners: tuple[Arm, ...]
    warnings: tuple[str, ...] = ()

    def name(self, index: int, point: Point) -> str:
        """Name a point as an arm of the sweep; `index` counts the points that were asked, from 0."""
        return "-".join((f"p{index:03d}", *point.picks))


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """A question, checked.

    Attributes:
        name: the file's stem; names the output folder.
        question: one sentence.
        metric: what ranks the arms.
        goal: which way is better.
        worst: what Optuna is told for a trial that diverged.
        seeds: every arm, and every point of a space, is cooked once with each.
        arms: known recipes; with a space they are cooked first, and may be none.
        launcher, tracking: the sweep's, not an arm's.
        search: the space, if there is one.
        pruner: who stops trials at rungs.
        constraints: bounds that a good recipe keeps.
        further: objectives besides the metric; there may be one.
    """

    name: str
    question: str
    metric: str
    goal: Goal
    worst: float
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    launcher: LauncherOptions
    tracking: TrackingOptions
    search: Search | None = None
    pruner: PrunerOptions = field(default_factory=PrunerOptions)
    constraints: tuple[Constraint, ...] = ()
    further: tuple[Objective, ...] = ()

    @property
    def total(self) -> int:
        """Declared number of trials."""
        return len(self.arms) * len(self.seeds) if self.search is None else self.search.total

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The metric, and what else is optimised."""
        return (Objective(name=self.metric, goal=self.goal, worst=self.worst), *self.further)

    @property
    def known(self) -> tuple[Arm, ...]:
        """Every recipe that can be looked at before any work: the arms, and the corners of the space."""
        return self.arms if self.search is None else (*self.arms, *self.search.corners)
