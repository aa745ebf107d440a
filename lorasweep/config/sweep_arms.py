"""Compose the arms of a sweep file, and find those that are points of its space.

Problems of the common recipe are reported once, those of an arm under its name. Knows nothing about files.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lorasweep.config import places
from lorasweep.config.override import Override, as_overrides, parse
from lorasweep.config.recipe import check_recipe
from lorasweep.config.space import Space
from lorasweep.config.sweep_spec import Arm
from lorasweep.config.text_value import Scalar
from lorasweep.config.tree import compose_tree, look_up, without_replaced
from lorasweep.core.errors import Problem
from lorasweep.core.records import Recipe


def compose_arms(
    declared: Any, common: Sequence[str], overrides: Sequence[str], problems: list[Problem]
) -> tuple[list[Arm], Recipe | None]:
    """Compose every arm.

    Args:
        declared: what stands under `arms:`.
        common: `recipe:` as overrides.
        overrides: the command line's, applied last.
        problems: appended to.

    Returns:
        The arms that are right, and the common recipe, None when that is wrong.
    """
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
    """A function from a key to the value that it has in a composed recipe; a group's is the file chosen."""
    tree, _ = compose_tree(overrides)
    picks = {each.key: each.value for each in overrides if each.key in places.GROUPS}

    def value_of(key: str) -> Any:
        if key in places.GROUPS:
            chosen = tree.files.get(key, "").rpartition("/")[2].removesuffix(".yaml")
            return picks.get(key, chosen)
        return look_up(tree.values, key)

    return value_of
