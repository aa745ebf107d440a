"""The records of a sweep: a question, checked; its arms, the space that is searched, and how.

    sampler: tpe                                   or {name: tpe, seed: 0, startup: 10}
    pruner: {name: median, exempt: 0.1}
    constraints: {overcook/score: "<= 0.3"}

Knows nothing about files, Optuna, or running trials.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from lorasweep.config.bind import bind_record
from lorasweep.config.space import Label, Point, Space
from lorasweep.core.errors import Problem
from lorasweep.core.ranges import Count, Share
from lorasweep.core.records import LauncherOptions, Recipe, Seed, TrackingOptions

Goal = Literal["maximize", "minimize"]
R = TypeVar("R")
_BOUND = re.compile(r"\s*([<>])=?\s*([-+0-9.eE]+)\s*")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A metric, which way is better, and what is told for a recipe that failed as a recipe."""

    name: str
    goal: Goal = "maximize"
    worst: float | None = None  # None: of a score in [0, 1], by the goal

    def told(self) -> float:
        """Return the value of a recipe that failed."""
        by_goal = 0.0 if self.goal == "maximize" else 1.0
        return by_goal if self.worst is None else self.worst


@dataclass(frozen=True, kw_only=True)
class SamplerOptions:
    """Who chooses the next point."""

    name: Literal["tpe", "random", "grid", "pareto"] = "tpe"
    seed: Seed = 0
    startup: Count = 10  # trials drawn at random before tpe models anything; the first generation of pareto


@dataclass(frozen=True, kw_only=True)
class PrunerOptions:
    """Who stops a trial at a rung. Its unit of time is exposures per image."""

    name: Literal["none", "median", "successive_halving", "hyperband", "patient"] = "none"
    metric: str | None = None  # judged at rungs; None: the sweep's own
    goal: Goal | None = None  # of that metric; None: the sweep's own
    min_exposures: Count | None = None  # per image, before a trial can be stopped; None: the first rung's
    factor: Annotated[int, Field(ge=2)] = 2  # halving and hyperband: one in so many goes on
    startup: Count = 5  # median and patient: trials that end before anything is compared
    patience: Annotated[int, Field(ge=0)] = 1  # patient: rungs without an improvement that are let pass
    exempt: Share = 0.1  # share of trials, drawn by lot, that run their course whatever is said of them
    decades: bool = True  # compare only trials whose learning rates have the same power of ten

    @property
    def active(self) -> bool:
        """Whether anything is ever stopped."""
        return self.name != "none"


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A bound on a metric that a good recipe keeps."""

    metric: str
    sign: Literal["<=", ">="]
    bound: float

    def violation(self, value: float) -> float:
        """Return how far `value` is on the wrong side; at most 0 when the bound is kept."""
        return value - self.bound if self.sign == "<=" else self.bound - value

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.bound:g}"


_KNOBS: dict[type, dict[str, str]] = {  # what each choice reads, beside its name
    SamplerOptions: {"tpe": "seed startup", "random": "seed", "grid": "", "pareto": "seed startup"},
    PrunerOptions: {
        "median": "metric goal min_exposures exempt decades startup",
        "patient": "metric goal min_exposures exempt decades startup patience",
        "successive_halving": "metric goal min_exposures exempt decades factor",
        "hyperband": "metric goal min_exposures exempt decades factor",
    },
}


def read_options(cls: type[R], data: Any, *, at: str, problems: list[Problem]) -> R:
    """Read `name` or `{name: ..., knobs}` into its record; its defaults when something is wrong."""
    found = bind_record(cls, {"name": data} if isinstance(data, str) else data, at=at, problems=problems)
    if found is None:
        return cls()
    name = str(vars(found)["name"])
    if not isinstance(data, Mapping) or name not in _KNOBS[cls]:
        return found  # pruner none reads nothing, and is how one is switched off
    reads = _KNOBS[cls][name].split()
    for key in data:
        if key != "name" and key not in reads:
            message = f"is not read by {name}, which has {', '.join(reads) or 'no knobs'}"
            problems.append(Problem(f"{at}.{key}", message, f"leave it out; override: {at}={name}"))
    return found


def read_constraints(data: Mapping[str, Any], problems: list[Problem]) -> tuple[Constraint, ...]:
    """Read `{metric: "<= bound"}`."""
    found = []
    for metric, text in data.items():
        if bound := read_constraint(str(metric), str(text)):
            found.append(bound)
        else:
            where = f"sweep.constraints.{metric}"
            problems.append(Problem(where, f"must be a bound, got {text!r}", 'e.g. overcook/score: "<= 0.3"'))
    return tuple(found)


def read_constraint(metric: str, text: str) -> Constraint | None:
    """Read `<= 0.3` or `>= 1`, of which `<` and `>` are short forms; None for what is no bound."""
    match = _BOUND.fullmatch(text)
    try:
        bound = float(match[2]) if match else math.nan
    except ValueError:
        return None
    if match is None or not math.isfinite(bound):
        return None
    return Constraint(metric=metric, sign="<=" if match[1] == "<" else ">=", bound=bound)


def mode_problems(
    sampler: SamplerOptions,
    pruner: PrunerOptions,
    objectives: tuple[Objective, ...],
    constraints: tuple[Constraint, ...],
) -> list[Problem]:
    """Find ways of searching that contradict each other."""
    found = []
    several = len(objectives) > 1
    if several and objectives[0].name == objectives[1].name:
        message = f"{objectives[0].name} is given twice"
        found.append(Problem("sweep.metric", message, "one metric, or a second one"))
    for each in objectives:
        if each.goal == "minimize" and each.told() <= 0:
            message = f"would be among the best values of {each.name}, got {each.worst:g}"
            found.append(Problem("sweep.metric.worst", message, "what a failed recipe counts as, e.g. 1"))
    if sampler.name == "pareto" and not several and not constraints:
        hint = "metric: [{name: identity/score}, {name: overcook/score, goal: minimize}], or sampler: tpe"
        found.append(Problem("sweep.sampler", "pareto needs two metrics or a constraint", hint))
    if several and pruner.active:
        message = "nothing says which of two metrics stops a trial early"
        found.append(Problem("sweep.pruner", message, "pruner: none, or one metric with `constraints:`"))
    if pruner.goal is not None and pruner.metric is None:
        found.append(Problem("sweep.pruner.goal", "belongs to pruner.metric, which is not given"))
    if pruner.metric is not None and pruner.goal is None and pruner.metric != objectives[0].name:
        hint = "pruner: {goal: maximize, ...}, or minimize"
        found.append(Problem("sweep.pruner.goal", f"must say which way {pruner.metric} is better", hint))
    return found


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A named recipe, compared side by side with the others."""

    name: str  # short, a part of folder names
    note: str  # what it is there for
    overrides: tuple[str, ...]  # what makes it differ from the sweep's common recipe, as `KEY=VALUE`s
    recipe: Recipe  # fully resolved, with the recipe's own seed; a trial replaces it by one of the sweep's
    # where it lies in the sweep's space, so that the search learns from it; None: outside of it
    params: Mapping[str, Label] | None = None


@dataclass(frozen=True, kw_only=True)
class Search:
    """The space of a sweep and how it is searched."""

    space: Space  # what is searched
    total: int  # how many trials there will be in all, arms and repeats included
    sampler: SamplerOptions
    common: tuple[str, ...]  # overrides of every point, applied before its own
    overrides: tuple[str, ...]  # the command line's, applied after
    corners: tuple[Arm, ...]  # recipes at the edge of the space, all of them valid; at least one
    warnings: tuple[str, ...] = ()  # what people should know about the space before it is searched

    def name(self, index: int, point: Point) -> str:
        """Name a point as an arm of the sweep; `index` counts the points that were asked, from 0."""
        return "-".join((f"p{index:03d}", *point.picks))


@dataclass(frozen=True, kw_only=True)
class SweepSpec:
    """A question, checked."""

    name: str  # the file's stem; names the output folder
    question: str  # one sentence
    metric: str  # what ranks the arms
    goal: Goal  # which way is better
    worst: float  # what Optuna is told for a trial that diverged
    seeds: tuple[int, ...]  # every arm, and every point of a space, is cooked once with each
    arms: tuple[Arm, ...]  # known recipes; with a space they are cooked first, and may be none
    launcher: LauncherOptions  # launcher, tracking: the sweep's, not an arm's
    tracking: TrackingOptions
    search: Search | None = None  # the space, if there is one
    pruner: PrunerOptions = field(default_factory=PrunerOptions)  # who stops trials at rungs
    constraints: tuple[Constraint, ...] = ()  # bounds that a good recipe keeps
    further: tuple[Objective, ...] = ()  # objectives besides the metric; there may be one
    typed: tuple[str, ...] = ()  # what it was asked by: a name, a file or KEY=VALUE, then KEY=VALUEs

    @property
    def total(self) -> int:
        """Declared number of trials."""
        return len(self.arms) * len(self.seeds) if self.search is None else self.search.total

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The metric, and what else is optimised."""
        return (Objective(name=self.metric, goal=self.goal, worst=self.worst), *self.further)

    @property
    def learns(self) -> bool:
        """Whether what is trained next depends on what came out: points that are asked for, or trials that go on."""
        return self.pruner.name != "none" or (self.search is not None and self.search.sampler.name in ("tpe", "pareto"))

    @property
    def known(self) -> tuple[Arm, ...]:
        """Every recipe that can be looked at before any work: the arms, and the corners of the space."""
        return self.arms if self.search is None else (*self.arms, *self.search.corners)
