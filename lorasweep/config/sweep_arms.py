"""Compose the arms of a sweep file, and the recipes in the reach of its space, before any work.

"In reach" is sampled at the corners: all combinations of files, and in each the ends of its intervals and
every value of its choices. A key that no recipe has, a range that a component refuses: found here, all at
once, not at trial 37. What composes at every corner may not do so inside (a rank that must be a multiple of
four), so random points tell which share of the space makes no recipe. Problems of the common recipe are reported
once, those of an arm under its name. Knows nothing about files, or about images: `plan` looks at those.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lorasweep.config import places
from lorasweep.config.override import Override, as_overrides, parse
from lorasweep.config.recipe import check_recipe
from lorasweep.config.space import Axis, Choice, Condition, Point, Setting, Space, label_of
from lorasweep.config.space_read import Swept, condition_problems, overlap_problems, read_space
from lorasweep.config.sweep_spec import Arm, SamplerOptions, Search
from lorasweep.config.text_value import Scalar
from lorasweep.config.tree import compose_tree, look_up, without_replaced
from lorasweep.core.errors import Problem
from lorasweep.core.hydra_text import write
from lorasweep.core.records import Recipe

MOST_CORNERS = 400
RANDOM_POINTS = 64  # a second's work
_RUNGS = "one run gives every step up to its budget: its rungs are judged and `done_at` names the best"
_LADDER = "one run is already drawn at every weight of sample.weights: compare them there"
_MEASURING = "changes how recipes are judged, not what is cooked"
_NO_RECIPE = "decides nothing about a recipe"
_REFUSED = {
    "train": "its files hold the budget; " + _RUNGS,
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
_REFUSED_GROUPS = {"sample": _MEASURING, "metrics": _MEASURING, "tracking": _NO_RECIPE, "launcher": _NO_RECIPE}
LARGEST_GRID = 10_000


def compose_arms(
    declared: Any, common: Sequence[str], overrides: Sequence[str], problems: list[Problem]
) -> tuple[list[Arm], Recipe | None]:
    """Compose every arm of the common overrides, its own and the command line's; and the common recipe, or None."""
    common_found: list[Problem] = []
    base = compose((*common, *overrides), common_found)
    problems += [placed(problem, "sweep.recipe") for problem in common_found]
    seen = {(problem.where, problem.message) for problem in common_found}
    arms: list[Arm] = []
    for name, keys in declared.items() if isinstance(declared, Mapping) else ():
        keys = {} if keys is None else keys
        if not isinstance(keys, Mapping):
            message = f"must have keys, got {keys!r}"
            problems.append(Problem(f"sweep.arms.{name}", message, "e.g. {optimizer: prodigy}"))
            continue
        found: list[Problem] = []
        own = without_replaced(_own_overrides(str(name), keys, found), overrides)
        recipe = compose((*common, *own, *overrides), found)
        problems += [placed(p, f"arm `{name}`") for p in found if (p.where, p.message) not in seen]
        if recipe is not None:
            note = str(keys.get("note", ""))
            arms.append(Arm(name=str(name), note=note, overrides=tuple(own), recipe=recipe))
    return arms, base


def compose(texts: Sequence[str], problems: list[Problem]) -> Recipe | None:
    """Compose overrides into a recipe; None when something is wrong, here or before."""
    parsed, found = parse(texts)
    problems += found
    return check_recipe(parsed, problems)


def placed(problem: Problem, owner: str) -> Problem:
    """Say whose problem it is."""
    if problem.where.startswith("sweep."):
        return problem
    return dataclasses.replace(problem, where=f"{owner}: {problem.where}")


def locate(arm: Arm, space: Space, common: Sequence[str], overrides: Sequence[str]) -> Arm:
    """Note where an arm lies in the space; one that differs in anything else lies outside."""
    parsed, _ = parse((*common, *arm.overrides, *overrides))
    point = space.locate(_reader(parsed))
    if point is None:
        return arm
    again = compose((*common, *point.overrides, *overrides), [])
    same = again is not None and again.fingerprint() == arm.recipe.fingerprint()
    return dataclasses.replace(arm, params=point.params) if same else arm


def _own_overrides(name: str, keys: Mapping[str, Any], problems: list[Problem]) -> list[str]:
    if not isinstance(keys.get("note", ""), str | Scalar):
        problems.append(Problem("note", f"must be text, got {keys['note']!r}"))
    own = as_overrides({k: v for k, v in keys.items() if k != "note"}, f"sweep.arms.{name}", problems)
    for text in own:
        if match := re.match(r"(launcher|tracking|seed)\b", text):
            seed = match[0] == "seed"
            hint = "sweep.seeds: [0, 1]" if seed else "put it under `recipe:` or on the command line"
            problems.append(Problem(text, "belongs to the whole sweep, not to an arm", hint))
    return own


def _reader(overrides: Sequence[Override]) -> Any:
    """Return a function from a key to the value that it has in a composed recipe; a group's is the file chosen."""
    tree, _ = compose_tree(overrides)
    picks = {each.key: each.value for each in overrides if each.key in places.groups()}

    def value_of(key: str) -> Any:
        if key in places.groups():
            chosen = tree.files.get(key, "").rpartition("/")[2].removesuffix(".yaml")
            return picks.get(key, chosen)
        return look_up(tree.values, key)

    return value_of


def static_problems(space: Space, fixed: Iterable[str], *, sampler: str) -> list[Problem]:
    """Find what can be seen without composing a recipe; `fixed` are the keys that `recipe:` gives one value."""
    problems = [*condition_problems(space), *overlap_problems(space)]
    fixed_keys = set(fixed)
    for key in space.keys:
        where = f"sweep.space.{key}"
        if reason := _REFUSED.get(key) or _REFUSED_GROUPS.get(key.split(".")[0]):
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


def compose_corners(
    space: Space, before: Sequence[str], after: Sequence[str], problems: list[Problem]
) -> tuple[Arm, ...]:
    """Compose the recipes at the corners of a space, between two lots of overrides; what is wrong is reported once."""
    corners: list[Arm] = []
    tried = corner_points(space)
    found: dict[tuple[str, str], tuple[Problem, list[Point]]] = {}
    for point in tried:
        local: list[Problem] = []
        recipe = compose((*before, *point.overrides, *after), local)
        if recipe is not None:
            name = "-".join((f"corner{len(corners):02d}", *point.picks))
            arm = Arm(name=name, note="", overrides=point.overrides, recipe=recipe, params=point.params)
            corners.append(arm)
        for problem in local:
            # Each component says in its own words that it does not know a key.
            message = "" if _is_unknown_key(problem) else problem.message
            found.setdefault((problem.where, message), (problem, []))[1].append(point)
    for problem, at in found.values():
        problems.append(_explained(problem, at, [point for point in tried if point not in at], space))
    return tuple(corners)


def try_random_points(
    space: Space, before: Sequence[str], after: Sequence[str], problems: list[Problem]
) -> tuple[str, ...]:
    """Compose recipes inside a space whose corners all do; warns of a share that makes none, all are a problem."""
    tried = _random_points(space)
    failed: list[tuple[Point, Problem]] = []
    for point in tried:
        found: list[Problem] = []
        compose((*before, *point.overrides, *after), found)
        failed += [(point, problem) for problem in found[:1]]
    if not failed:
        return ()
    point, problem = failed[0]
    message = (
        f"{len(failed)} of {len(tried)} points tried make no recipe, e.g. {' '.join(point.overrides)}: "
        f"{problem.where} {problem.message}"
    )
    hint = "give the axes only values that do, e.g. range(8,65,4) or choice(8,16,32)"
    if len(failed) == len(tried):
        problems.append(Problem("sweep.space", message, hint))
        return ()
    return (f"space: {message}; each asked for is a trial that ends INVALID, so {hint}",)


def _random_points(space: Space) -> list[Point]:
    """Return every point of a space that has few, else some drawn at random, the same ones each time."""
    if all(axis.domain.values is not None for axis in space.axes):
        points = list(itertools.islice(space.grid(), RANDOM_POINTS + 1))
        if len(points) <= RANDOM_POINTS:
            return points
    rng = random.Random(0)  # noqa: S311 - draws recipes, no secrets
    return [space.walk(lambda axis: axis.domain.draw(rng)) for _ in range(RANDOM_POINTS)]


def corner_points(space: Space) -> list[Point]:
    """Return the points to try: every combination of files, and every end and choice at least once in each file."""
    points: list[Point] = []
    seen: set[tuple[str, str, str]] = set()
    for turn in range(max(len(_ends(axis)) for axis in space.axes)):
        for point in space.every(functools.partial(_tried, turn=turn)):
            traits = set(_traits(point))
            if turn == 0 or traits - seen:
                points.append(point)
                seen |= traits
            if len(points) == MOST_CORNERS:
                return points
    return points


def _tried(axis: Axis, *, turn: int) -> Sequence[Any]:
    """Return every file of a group, and of each other axis the `turn`-th of its ends."""
    ends = _ends(axis)
    return ends if axis.key in places.groups() else (ends[turn % len(ends)],)


def _ends(axis: Axis) -> Sequence[Any]:
    return axis.domain.values if isinstance(axis.domain, Choice) else (axis.domain.low, axis.domain.high)


def _traits(point: Point) -> Iterator[tuple[str, str, str]]:
    """Return each value together with the file that it is a knob of."""
    for name, label in point.params.items():
        owner = point.values.get(name.split(".")[0].split("[")[0], "")
        yield name, str(owner), str(label)


def _is_unknown_key(problem: Problem) -> bool:
    return "unknown key" in problem.message


def _explained(problem: Problem, at: Sequence[Point], spared: Sequence[Point], space: Space) -> Problem:
    """Say where in the space a problem is met, and where the key would be known."""
    searched = {axis.key for axis in space.axes}
    where = problem.where if problem.where.startswith("sweep.") else f"space: {problem.where}"
    key, hint, message = problem.where.partition("=")[0], problem.hint, problem.message
    group = key.split(".")[0]
    if key in searched and _is_unknown_key(problem):
        knows = [point.values[group] for point in spared if group in point.values and key in point.values]
        if owners := dict.fromkeys(f"{group}={name}" for name in knows):
            hint = f"known with {', '.join(owners)}: put it under `when: {next(iter(owners))}:`"
    files = [name for name in places.groups() if name in searched]
    picks = {" ".join(f"{k}={label_of(point.values[k])}" for k in files if k in point.values) for point in at}
    if spared and (picks := picks - {""}):
        message += f" (with {'; '.join(sorted(picks)[:3])}{'; ...' if len(picks) > 3 else ''})"
    return dataclasses.replace(problem, where=where, message=message, hint=hint)


def build_search(
    declared: Mapping[str, Any] | None,
    *,
    swept: Sequence[Swept],
    common: Sequence[str],
    overrides: Sequence[str],
    arms: list[Arm],
    seeds: Sequence[int],
    total: int | None,
    sampler: SamplerOptions | None,
    problems: list[Problem],
) -> tuple[list[Arm], Search | None]:
    """Read and check the space; problems are appended, and the search is None without a space, or when there are any.

    The command line's axes are `swept`; the overrides `common` and `overrides` go before and after a point's own; arms
    that are points of the space learn where they lie; a grid knows its own `total`.
    """
    before = len(problems)
    pinned = {each.key: each.value for each in parse(overrides)[0]}
    space = read_space(declared, swept=swept, pinned=pinned, problems=problems)
    common, of_one = _parted(common, swept)
    if space is None:
        if total is not None and len(problems) == before:
            hint = "arms x seeds is the total"
            problems.append(Problem("sweep.total", "belongs to a space, and nothing is searched", hint))
        return arms, None
    space = dataclasses.replace(space, settings=(*space.settings, *of_one))
    countable = all(axis.domain.values is not None for axis in space.axes)
    if sampler is None:
        sampler = SamplerOptions(name="grid" if total is None and countable else "tpe")
    by_hand = {each.key for each in swept}
    fixed = {each.key for each in parse(common)[0]} - by_hand
    problems += static_problems(space, fixed, sampler=sampler.name)
    corners = compose_corners(space, common, overrides, problems)
    if sampler.name == "grid" and not countable:
        return arms, None
    warnings = () if len(problems) > before else try_random_points(space, common, overrides, problems)
    warnings += tuple(
        f"space: the file's {' '.join(write(each.key, each.value) for each in rows)} goes with {when[0]} only; "
        "typed on the command line, it goes with all"
        for when, rows in itertools.groupby(of_one, lambda each: each.when)
    )
    trials = _total(space, sampler, total, arms=len(arms), seeds=len(seeds), problems=problems)
    if len(problems) > before:
        return arms, None
    search = Search(
        space=space,
        total=trials,
        sampler=sampler,
        common=tuple(common),
        overrides=tuple(overrides),
        corners=corners,
        warnings=warnings,
    )
    return [locate(arm, space, common, overrides) for arm in arms], search


def _parted(common: Sequence[str], swept: Sequence[Swept]) -> tuple[list[str], list[Setting]]:
    """Part from a file's overrides the knobs that a searched file of `conf/` replaces, as one that is picked does.

    They stay with the file that they were written for: of `optimizer=adamw,prodigy`, AdamW keeps its learning rate.
    """
    given, usual = {each.key: each.value for each in parse(common)[0]}, places.read_map()[0]
    kept, settings, searched = list(common), [], {each.key for each in swept}
    for key, domain in [(each.key, each.domain) for each in swept if each.key in usual]:
        if not isinstance(domain, Choice):
            continue
        own = given.get(key, usual[key])
        for override in [each for each in parse(kept)[0] if each.key.startswith(f"{key}.") and not each.delete]:
            text = override.text
            stays = [c for c in domain.values if c == own or without_replaced([text], [write(key, c)])]
            if override.key in searched or len(stays) == len(domain.values):
                continue
            kept.remove(text)
            if stays:
                settings.append(Setting(override.key, override.value, (Condition(key, tuple(stays)),)))
    return kept, settings


def _total(
    space: Space,
    sampler: SamplerOptions,
    total: int | None,
    *,
    arms: int,
    seeds: int,
    problems: list[Problem],
) -> int:
    """Return how many trials there will be; a problem when that is not said, or cannot be."""
    if sampler.name == "grid":
        points = sum(1 for _ in itertools.islice(space.grid(), LARGEST_GRID + 1))
        wanted = (points + arms) * seeds
        if points > LARGEST_GRID:
            message = f"has more than {LARGEST_GRID} points"
            problems.append(Problem("sweep.space", f"the grid {message}", "sampler: random, with a total"))
        elif total is not None and total != wanted:
            what = f"{points} points, {arms} arms, {seeds} seeds"
            hint = "leave total out, or take sampler: random"
            problems.append(Problem("sweep.total", f"a grid cooks all of it: {wanted} ({what}), got {total}", hint))
        return wanted
    if total is None:
        hint = "e.g. total: 20; on the command line: sweep.total=20"
        problems.append(Problem("sweep.total", f"must be given: sampler {sampler.name} has no end", hint))
        return 0
    if total < max(1, arms * seeds):
        message = f"must be at least {max(1, arms * seeds)} (arms x seeds), got {total}"
        problems.append(Problem("sweep.total", message))
    return total
