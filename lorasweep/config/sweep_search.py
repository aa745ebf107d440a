"""How a space is searched: sampler, pruner, objectives and constraints, as declared in a sweep file.

    sampler: tpe                                   or {name: tpe, seed: 0, startup: 10}
    pruner: {name: median, exempt: 0.1}
    constraints: {overcook/score: "<= 0.3"}

Knows nothing about Optuna, which `lorasweep.sweep` speaks to.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import Field

from lorasweep.config.bind import bind_record
from lorasweep.core.errors import Problem
from lorasweep.core.ranges import Count, Share
from lorasweep.core.records import Seed

Goal = Literal["maximize", "minimize"]
R = TypeVar("R")
_BOUND = re.compile(r"\s*(<=|>=)\s*([-+0-9.eE]+)\s*")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A metric, which way is better, and what is told for a recipe that failed as a recipe."""

    name: str
    goal: Goal = "maximize"
    worst: float | None = None  # None: of a score in [0, 1], by the goal

    def told(self) -> float:
        """The value of a recipe that failed."""
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
        """How far `value` is on the wrong side; at most 0 when the bound is kept."""
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
        match = _BOUND.fullmatch(str(text))
        try:
            bound = float(match.group(2)) if match else None
        except ValueError:
            bound = None
        if match is None or bound is None or not math.isfinite(bound):
            where = f"sweep.constraints.{metric}"
            problems.append(Problem(where, f"must be a bound, got {text!r}", 'e.g. overcook/score: "<= 0.3"'))
            continue
        sign = cast(Literal["<=", ">="], match.group(1))
        found.append(Constraint(metric=str(metric), sign=sign, bound=bound))
    return tuple(found)


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
        hint = "pruner: {goal: minimize, ...}"
        found.append(Problem("sweep.pruner.goal", f"must say which way {pruner.metric} is better", hint))
    return found
