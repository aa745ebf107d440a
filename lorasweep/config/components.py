"""Bind a component (`name` plus knobs) to the builder of that name: one Python file, one YAML.

`adapter: {name: lora, dim: 32}` resolves to `build` in `lorasweep/components/adapters/lora.py`; its keyword-only
arguments are the knobs, each with its type and range, its positional ones are objects that only exist at run
time. Builders import torch inside, so reading their signature costs nothing. What is not given is as in
`conf/<group>/<name>.yaml`, the one place of a knob's default. Knows nothing about what a builder builds.

A module may also have `problems(*, some, knobs) -> list[tuple[key, message, hint]]`, for what no single knob
can say: it is asked once those that it names are right.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from lorasweep.config import places
from lorasweep.config.bind import TO_BE_GIVEN, Knob, bind_knobs
from lorasweep.config.suggest import unknown
from lorasweep.core import records, registry
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.records import Component, to_dict

_RUNTIME = {"seed"}  # keyword-only in builders, but given by the recipe, not by the component's YAML


def bind_component(group: str, data: Any, *, problems: list[Problem]) -> Component | None:
    """Check the `name` and the knobs of one component group; None when something is wrong."""
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        got = data.get("name") if isinstance(data, Mapping) else data
        problems.append(Problem(f"{group}.name", f"must be text, got {got!r}", f"choose a file: {group}=..."))
        return None
    name = data["name"]
    module = find_module(group, name, at=f"{group}.name", problems=problems)
    if module is None:
        return None
    knobs = {key: value for key, value in data.items() if key != "name"}
    options = bind_options(group, name, module, knobs, at=group, problems=problems)
    return None if options is None else Component(name=name, options=options)


def bind_options(
    group: str, name: str, module: types.ModuleType, data: Any, *, at: str, problems: list[Problem]
) -> dict[str, Any] | None:
    """Check knobs against a module's `build`; None when something is wrong.

    Returns:
        JSON-able values, one per knob; those that `data` lacks are as in `conf/`.
    """
    before, shipped = len(problems), places.read_choice(at.split(".")[0], name)
    knobs = {key: Knob(knob.hint, shipped.get(key, knob.default)) for key, knob in builder_knobs(module).items()}
    if isinstance(data, Mapping):
        data = {**{key: shipped[key] for key in knobs if key in shipped}, **data}
    bound = bind_knobs(knobs, data, at=at, problems=problems, owner=f"{group} `{name}`")
    for index in range(before, len(problems)):
        problems[index] = _with_owners(problems[index], group, at)
    problems += [Problem(f"{at}.{key}", message, hint) for key, message, hint in _relations(module, bound)]
    options: dict[str, Any] = to_dict(bound)
    return options if len(problems) == before else None


def _with_owners(problem: Problem, group: str, at: str) -> Problem:
    """Say of an unknown knob which other parts of the group have it."""
    if not problem.message.startswith("unknown key") or group not in registry.FOLDERS:
        return problem
    knob = problem.where.removeprefix(f"{at}.")
    owners = [f"{group}={name}" for name in registry.names(group) if knob in builder_knobs(registry.load(group, name))]
    if not owners:
        return problem
    return dataclasses.replace(problem, hint=f"it belongs to {', '.join(owners)}; {problem.hint}")


def find_module(group: str, name: str, *, at: str, problems: list[Problem]) -> types.ModuleType | None:
    """Import the module of a name; a name that has none is a problem."""
    known = registry.names(group)
    if name in known:
        try:
            return registry.load(group, name)
        except ConfigError as error:
            problems += error.problems
    elif name != TO_BE_GIVEN:
        message = unknown(f"no {group} is called {name!r}", name, known)
        problems.append(Problem(at, message, f"choices: {', '.join(known)}"))
    return None


def _relations(module: types.ModuleType, bound: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What the module says about its knobs together; nothing when one that it needs is wrong."""
    check = getattr(module, "problems", None)
    if check is None or not (needed := inspect.signature(check).parameters.keys()) <= bound.keys():
        return []
    found: list[tuple[str, str, str]] = check(**{key: bound[key] for key in needed})
    return found


@functools.cache
def builder_knobs(module: types.ModuleType) -> Mapping[str, Knob]:
    """The keyword-only arguments of `module.build`, as knobs.

    Only their annotations are evaluated, and may name what `records` has: those of positional arguments name
    torch types that are not imported here.
    """
    knobs = {
        key: parameter.annotation
        for key, parameter in inspect.signature(module.build).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and key not in _RUNTIME
    }
    annotated = types.SimpleNamespace(__annotations__=knobs)
    names = {**vars(records), **vars(module)}
    hints = typing.get_type_hints(annotated, globalns=names, include_extras=True)
    return {key: Knob(hint) for key, hint in hints.items()}
