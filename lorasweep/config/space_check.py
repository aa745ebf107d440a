"""Check a space before any work: its keys, its conditions, and the recipes in its reach.

"In reach" is sampled at the corners: all combinations of files, and in each the ends of its intervals and
every value of its choices. A key that no recipe has, a range that a component refuses: found here, all at
once, not at trial 37. What composes at every corner may not do so inside (a rank that must be a multiple of
four), so random points tell which share of the space makes no recipe. Knows nothing about images: `plan`
looks at those.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorasweep.config import places
from lorasweep.config.override import parse
from lorasweep.config.recipe import check_recipe
from lorasweep.config.space import Axis, Choice, Point, Space, label_of
from lorasweep.config.space_read import condition_problems, overlap_problems
from lorasweep.core.errors import Problem
from lorasweep.core.records import Recipe

MOST_CORNERS = 400
RANDOM_POINTS = 64  # a second's work
_RUNGS = "one run gives every step up to its budget: its rungs are judged and `done_at` names the best"
_LADDER = "one run is already drawn at every weight of sample.weights: compare them there"
_MEASURING = "changes how recipes are judged, not what is cooked"
_REFUSED = {
    "train.max_steps": _RUNGS,
    "train.epochs": _RUNGS,
    "train.steps_per_epoch": _RUNGS,
    "train.rungs": _RUNGS,
    "sample.weight": _LADDER,
    "sample.weights": _LADDER,
    "seed": "seeds are repeats of a recipe, not an axis: they tell the noise",
    "train.log_every": _MEASURING,
    "dataset.holdout": _MEASURING,
    "dataset.holdout_seed": _MEASURING,
}
_REFUSED_GROUPS = {
    "train": "its files hold the budget; " + _RUNGS,
    "sample": _MEASURING,
    "metrics": _MEASURING,
    "tracking": "decides nothing about a recipe",
    "launcher": "decides nothing about a recipe",
}


def static_problems(space: Space, fixed: Iterable[str], *, sampler: str) -> list[Problem]:
    """Find what can be seen without composing a recipe.

    Args:
        space: the axes.
        fixed: keys that `recipe:` gives one value.
        sampler: who chooses; a grid needs an end of values.
    """
    problems = [*condition_problems(space), *overlap_problems(space)]
    fixed_keys = set(fixed)
    for key in space.keys:
        where = f"sweep.space.{key}"
        reason = _REFUSED.get(key) or _REFUSED_GROUPS.get(key) or _group_reason(key)
        if reason:
            hint = "sweep.seeds: [0, 1, 2]" if key == "seed" else "give it one value under `recipe:`"
            problems.append(Problem(where, f"cannot be searched: {reason}", hint))
        if key in fixed_keys:
            message = "is both given one value under `recipe:` and searched"
            problems.append(Problem(where, message, "take it out of one of them"))
    for axis in space.axes:
        if sampler == "grid" and axis.domain.values is None:
            hint = "choice(1e-4,2e-4,5e-4), or sampler: random or tpe"
            problems.append(Problem(f"sweep.space.{axis.name}", f"a grid has no end of values in {axis.domain}", hint))
    return problems


def _group_reason(key: str) -> str:
    group = key.split(".")[0]
    return _REFUSED_GROUPS[group] if group in ("sample", "metrics", "tracking", "launcher") else ""


@dataclass(frozen=True, kw_only=True)
class Corner:
    """A point at the edge of the space and its recipe."""

    point: Point
    recipe: Recipe


@dataclass
class _Found:
    """A problem, the corners that have it, and what it is about."""

    problem: Problem
    at: list[Point] = field(default_factory=list)


def compose_corners(
    space: Space, before: Sequence[str], after: Sequence[str], problems: list[Problem]
) -> tuple[Corner, ...]:
    """Compose the recipes at the corners of a space; what is wrong with any is reported once.

    Args:
        space: the axes.
        before: overrides of every recipe, applied before the point's own.
        after: those applied after.
        problems: appended to.
    """
    good: list[Corner] = []
    tried = corner_points(space)
    found: dict[tuple[str, str], _Found] = {}
    for point in tried:
        recipe, local = _compose(point, before, after)
        if recipe is not None:
            good.append(Corner(point=point, recipe=recipe))
        for problem in local:
            found.setdefault((problem.where, problem.message), _Found(problem)).at.append(point)
    for each in found.values():
        unknown_at = [point for other in found.values() if _same_unknown(other, each) for point in other.at]
        spared = [point for point in tried if point not in (*each.at, *unknown_at)]
        problems.append(_explained(each, spared, space))
    return tuple(good)


def try_random_points(
    space: Space, before: Sequence[str], after: Sequence[str], problems: list[Problem]
) -> tuple[str, ...]:
    """Compose recipes inside a space whose corners all compose.

    Args:
        space: the axes.
        before: overrides of every recipe, applied before the point's own.
        after: those applied after.
        problems: appended to when none of the points makes a recipe.

    Returns:
        A warning that says which share makes none; nothing when all do.
    """
    tried = _random_points(space)
    failed = [(point, found) for point in tried if (found := _compose(point, before, after)[1])]
    if not failed:
        return ()
    point, found = failed[0]
    message = (
        f"{len(failed)} of {len(tried)} points tried make no recipe, e.g. {' '.join(point.overrides)}: "
        f"{found[0].where} {found[0].message}"
    )
    hint = "give the axes only values that do, e.g. range(8,65,4) or choice(8,16,32)"
    if len(failed) == len(tried):
        problems.append(Problem("sweep.space", message, hint))
        return ()
    return (f"space: {message}; each asked for is a trial that ends INVALID, so {hint}",)


def _random_points(space: Space) -> list[Point]:
    """Every point of a space that has few, else some drawn at random, the same ones each time."""
    if all(axis.domain.values is not None for axis in space.axes):
        points = list(itertools.islice(space.grid(), RANDOM_POINTS + 1))
        if len(points) <= RANDOM_POINTS:
            return points
    rng = random.Random(0)  # noqa: S311 - draws recipes, no secrets
    return [space.walk(lambda axis: axis.domain.draw(rng)) for _ in range(RANDOM_POINTS)]


def _compose(point: Point, before: Sequence[str], after: Sequence[str]) -> tuple[Recipe | None, list[Problem]]:
    parsed, problems = parse([*before, *point.overrides, *after])
    return check_recipe(parsed, problems), problems


def corner_points(space: Space) -> list[Point]:
    """The points to try: every combination of files, and every end and choice at least once in each file."""
    first = {axis.name: _tried(axis)[0] for axis in space.axes}
    combinations = space.every(lambda axis: _tried(axis) if axis.key in places.GROUPS else (first[axis.name],))
    points: list[Point] = []
    seen: set[tuple[str, str, str]] = set()
    for base in itertools.islice(combinations, MOST_CORNERS):
        points.append(base)
        seen |= set(_traits(base))
        variants = max((len(_tried(axis)) for axis in space.axes if axis.name in base.params), default=1)
        for turn in range(1, variants):
            point = _turned(space, base, turn)
            traits = set(_traits(point))
            if point.params != base.params and traits - seen and len(points) < MOST_CORNERS:
                points.append(point)
                seen |= traits
    return points


def _turned(space: Space, base: Point, turn: int) -> Point:
    """The point with the same files, and of each other axis the `turn`-th thing to try."""

    def choose(axis: Axis) -> Any:
        if axis.key in places.GROUPS and axis.key in base.values:
            return base.values[axis.key]
        return _tried(axis)[turn % len(_tried(axis))]

    return space.walk(choose)


def _traits(point: Point) -> Iterator[tuple[str, str, str]]:
    """Each value together with the file that it is a knob of."""
    for name, label in point.params.items():
        owner = point.values.get(name.split(".")[0].split("[")[0], "")
        yield name, str(owner), str(label)


def _tried(axis: Axis) -> Sequence[Any]:
    return axis.domain.values if isinstance(axis.domain, Choice) else (axis.domain.low, axis.domain.high)


def _same_unknown(one: _Found, other: _Found) -> bool:
    return one.problem.where == other.problem.where and "unknown key" in one.problem.message


def _explained(found: _Found, spared: Sequence[Point], space: Space) -> Problem:
    """Say where in the space a problem is met, and where the key would be known."""
    problem, searched = found.problem, {axis.key for axis in space.axes}
    where = problem.where if problem.where.startswith("sweep.") else f"space: {problem.where}"
    key = problem.where.partition("=")[0]
    hint = problem.hint
    if key in searched and "unknown key" in problem.message:
        group = key.split(".")[0]
        owners = dict.fromkeys(
            f"{group}={point.values[group]}" for point in spared if group in point.values and key in point.values
        )
        if owners:
            hint = f"known with {', '.join(owners)}: put it under `when: {next(iter(owners))}:`"
    picks = sorted({_picks(point, space) for point in found.at} - {""})
    message = problem.message
    if picks and spared:
        message = f"{message} (with {'; '.join(picks[:3])}{'; ...' if len(picks) > 3 else ''})"
    return dataclasses.replace(problem, where=where, message=message, hint=hint)


def _picks(point: Point, space: Space) -> str:
    chosen: Mapping[str, Any] = point.values
    return " ".join(
        f"{key}={label_of(chosen[key])}" for key in places.GROUPS if key in chosen and _searched(key, space)
    )


def _searched(key: str, space: Space) -> bool:
    return any(axis.key == key for axis in space.axes)
