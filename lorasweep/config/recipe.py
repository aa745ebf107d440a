"""Compose one recipe from `conf/` and overrides, and check all of it.

Takes `KEY=VALUE`s, returns a `Recipe`, or raises one `ConfigError` with every problem. Knows nothing about
the images that a recipe will meet: that is `plan`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lorasweep.config import places, rules
from lorasweep.config.bind import (
    bind_component,
    bind_knobs,
    bind_options,
    bind_value,
    builder_knobs,
    find_module,
    record_knobs,
    with_owners,
)
from lorasweep.config.override import Override, parse, repeats, unsafe
from lorasweep.config.suggest import of_other_trainers, unknown
from lorasweep.config.tree import Tree, compose_tree
from lorasweep.core import registry
from lorasweep.core.errors import ConfigError, InputError, Problem
from lorasweep.core.records import BaseOptions, Component, LauncherOptions, Recipe, to_dict

_MODULES = {"regularization": "regularizer", "metrics": "metric"}  # what one of a list is called


def compose_recipe(overrides: Sequence[str] = (), *further: Sequence[str]) -> Recipe:
    """Compose the recipe of `conf/recipe.yaml` with overrides.

    Args:
        overrides: Hydra's grammar: `optimizer=prodigy` picks a file of `conf/optimizer/`, `optimizer.lr=0.5`
            sets a key, `metrics=[burn]` picks a list, `~metrics.burn` takes one out.
        further: overrides from elsewhere, which win over those before them.

    Raises:
        ConfigError: with all problems at once; two values for a key from one place are one.
    """
    layers = (overrides, *further)
    parsed, problems = parse([text for layer in layers for text in layer])
    for layer in layers:
        problems += repeats(layer)
    recipe = check_recipe(parsed, problems)
    if recipe is None:
        raise ConfigError(problems, subject="the recipe")
    return recipe


def take_component(group: str, words: Sequence[str]) -> tuple[Component | None, list[str], list[Problem]]:
    """Take a component that is no part of a recipe out of what was typed: `tagger=wd tagger.path=...`.

    Returns:
        The component, None without one; the words that are left; and what is wrong with those that were taken.
    """
    own = [word for word in words if word.lstrip("+~").partition("=")[0].partition(".")[0] == group]
    left = [word for word in words if word not in own]
    overrides, problems = parse(own)
    problems += repeats(own)
    data: dict[str, Any] = {}
    for override in sorted(overrides, key=lambda each: each.key != group):
        if override.key == group:
            data |= places.read_choice(group, str(override.value)) or {"name": override.value}
        else:
            data[override.key.removeprefix(f"{group}.")] = override.value
    problems += unsafe(group, data)
    component = bind_component(group, data, problems=problems) if own and not problems else None
    return component, left, problems


def check_recipe(overrides: Sequence[Override], problems: list[Problem]) -> Recipe | None:
    """Compose and check; problems are appended, and None is returned when there is any."""
    tree, found = compose_tree(overrides)
    found += unsafe("", tree.values)
    parts = _bind_groups(tree, found)
    found += rules.check(tree.values)
    if parts.get("base") and parts.get("buckets"):
        found += _bucket_problems(parts["base"], parts["buckets"].options, parts["buckets"].name)
    if found and parts.get("base"):
        found += _missing_base(parts["base"])
    once = {(problem.where, problem.message): problem for problem in found}
    strange = {problem.where for problem in found}
    problems += [_with_file(_with_meant(problem, tree.values, strange), tree) for problem in once.values()]
    return None if problems else Recipe(**parts)


def _bind_groups(tree: Tree, problems: list[Problem]) -> dict[str, Any]:
    values = tree.values
    known = {field.name for field in dataclasses.fields(Recipe)}
    for key in [key for key in values if key not in known]:
        message, hint = unknown("unknown key in a recipe", key, known), f"keys: {', '.join(sorted(known))}"
        if key == "sweep":
            message, hint = "belongs to a sweep, and this is one recipe", "lorasweep sweep NAME sweep.KEY=..."
        problems.append(Problem(key, message, hint))
    parts: dict[str, Any] = {}
    for key, knob in record_knobs(Recipe).items():
        if key in places.LIST_GROUPS:
            parts[key] = _bind_list(key, values.get(key), problems)
        elif key == "launcher":
            parts[key] = _bind_launcher(values.get(key), problems)
        elif knob.hint is Component:
            parts[key] = bind_component(key, values.get(key), problems=problems)
        else:
            parts[key] = bind_value(knob.hint, values.get(key), at=key, problems=problems)
    if parts["base"] is not None:
        find_module("base", parts["base"].name, at="base.name", problems=problems)
    return parts


def _bind_launcher(data: Any, problems: list[Problem]) -> LauncherOptions | None:
    """Check what every launcher has, and the knobs of the one that is named."""
    before, name = len(problems), data.get("name") if isinstance(data, Mapping) else None
    module = find_module("launcher", name, at="launcher.name", problems=problems) if isinstance(name, str) else None
    common = {key: knob for key, knob in record_knobs(LauncherOptions).items() if key != "options"}
    own = builder_knobs(module) if module else {}
    bound = bind_knobs({**common, **own}, data, at="launcher", problems=problems, owner="`launcher`")
    if len(problems) > before:
        problems[before:] = [with_owners(problem, "launcher", "launcher") for problem in problems[before:]]
        return None
    options = {key: to_dict(bound.pop(key)) for key in own}
    return LauncherOptions(**bound, options=options)


def _bind_list(group: str, data: Any, problems: list[Problem]) -> dict[str, dict[str, Any]]:
    """Check every module of a group of which there may be several: its name is the key above its knobs."""
    found: dict[str, dict[str, Any]] = {}
    if not isinstance(data, Mapping):
        problems.append(Problem(group, f"must be {_MODULES[group]} names with their knobs, got {data!r}"))
        return found
    for name, knobs in data.items():
        at = f"{group}.{name}"
        module = find_module(group, str(name), at=at, problems=problems)
        if module is None:
            continue
        options = bind_options(_MODULES[group], str(name), module, knobs or {}, at=at, problems=problems)
        found[str(name)] = options or {}
    return found


def _bucket_problems(base: BaseOptions, options: dict[str, Any], name: str) -> list[Problem]:
    """Try the buckets here: they are pure arithmetic on the base's options."""
    try:
        registry.load("buckets", name).build(base, **options)
    except InputError as error:
        return error.problems
    return []


def _missing_base(base: BaseOptions) -> list[Problem]:
    """Return what `plan` would say next of a base that is not there, so that one round tells of both folders."""
    module = find_module("base", base.name, at="base.name", problems=[])
    if module is None or base.path is None or Path(base.path).expanduser().exists():
        return []
    return [Problem(f"base.{key}", message, hint) for key, message, hint in module.problems(base)]


def _with_meant(problem: Problem, values: Mapping[str, Any], strange: Collection[str]) -> Problem:
    """Say of an unknown key who knows its name: another group, but for `strange` keys, or another trainer."""
    own, _, key = problem.where.rpartition(".")
    if not problem.message.startswith("unknown key") or problem.hint.startswith("it belongs to") or "." in own:
        return problem
    groups = [group for group in sorted(values) if isinstance(values[group], Mapping) and key in values[group]]
    if owners := [f"`{group}.{key}`" for group in groups if not {group, f"{group}.{key}"}.intersection(strange)]:
        meant = f"did you mean {' or '.join(owners)}?"
    elif theirs := of_other_trainers(key):
        meant = f"it is {theirs}: see docs/flags.md"
    else:
        return problem
    return dataclasses.replace(problem, message=f"{problem.message.partition(';')[0]}; {meant}")


def _with_file(problem: Problem, tree: Tree) -> Problem:
    """Say in which YAML file a key is explained, when the problem is about a key."""
    if "=" in problem.where or problem.hint.startswith("conf/"):
        return problem
    place = tree.file_of(problem.where)
    return dataclasses.replace(problem, hint=f"{place}; {problem.hint}".removesuffix("; "))
