"""Bind a component (`name` plus knobs) to the builder of that name: one Python file, one YAML, no registry.

`adapter: {name: lora, dim: 32}` resolves to `build` in `lorasweep/components/adapters/lora.py`; its keyword-only
arguments are the knobs, its positional ones are objects that only exist at run time. Builders import torch
inside, so reading their signature costs nothing. What is not given is as in `conf/<group>/<name>.yaml`, the
one place of a knob's default. Knows nothing about what a builder builds.

A module may also have `problems(**knobs) -> list[tuple[key, message, hint]]`, for ranges that types cannot
say.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import inspect
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lorasweep
from lorasweep.config import places
from lorasweep.config.bind import REQUIRED, TO_BE_GIVEN, Knob, bind_knobs
from lorasweep.config.suggest import unknown
from lorasweep.core import records
from lorasweep.core.errors import Problem
from lorasweep.core.records import Component, to_dict

FOLDERS = {
    "base": "components.bases",
    "buckets": "components.buckets",
    "adapter": "components.adapters",
    "optimizer": "components.optimizers",
    "scheduler": "components.schedulers",
    "regularization": "components.regularizers",
    "metrics": "trial.judge.metrics",
}
# What makes a module a choice, where that is not any `build`: a metric's takes knobs only.
_BUILDERS = {"base": r"^load = ", "metrics": r"^def build\((\s*\*|\))"}
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
    before, knobs = len(problems), builder_knobs(module)
    shipped = {k: v for k, v in places.read_choice(at.split(".")[0], name).items() if k != "name"}
    if isinstance(data, Mapping):
        data = {**shipped, **data}
    bind = functools.partial(bind_knobs, knobs, at=at, owner=f"{group} `{name}`")
    bound = bind(data, problems=problems)
    for index in range(before, len(problems)):
        problems[index] = _with_owners(problems[index], group, at)
    # Ranges are checked in one go: what is shipped stands in for knobs that do not fit their types.
    for key, message, hint in _range_problems(module, {**bind(shipped, problems=[]), **bound}):
        if key in bound or key not in knobs:
            problems.append(Problem(f"{at}.{key}", message, hint))
    options: dict[str, Any] = to_dict(bound)
    return options if len(problems) == before else None


def _with_owners(problem: Problem, group: str, at: str) -> Problem:
    """Say of an unknown knob which other parts of the group have it."""
    if not problem.message.startswith("unknown key") or group not in FOLDERS:
        return problem
    knob = problem.where.removeprefix(f"{at}.")
    modules = {name: importlib.import_module(f"lorasweep.{FOLDERS[group]}.{name}") for name in catalogue(group)}
    owners = [f"{group}={name}" for name, module in modules.items() if knob in builder_knobs(module)]
    if not owners:
        return problem
    return dataclasses.replace(problem, hint=f"it belongs to {', '.join(owners)}; {problem.hint}")


def find_module(group: str, name: str, *, at: str, problems: list[Problem]) -> types.ModuleType | None:
    """Import `lorasweep/<folder>/<name>.py`; a name that has no builder is a problem."""
    folder = FOLDERS[group]
    if name not in catalogue(group):
        if name != TO_BE_GIVEN:
            hint = f"it would be lorasweep/{folder.replace('.', '/')}/{name}.py; choices: {', '.join(catalogue(group))}"
            problems.append(Problem(at, unknown(f"no {group} is called {name!r}", name, catalogue(group)), hint))
        return None
    return importlib.import_module(f"lorasweep.{folder}.{name}")


@functools.cache
def catalogue(group: str) -> list[str]:
    """Names of a group's modules that have a builder, sorted; nothing is imported."""
    folder = Path(lorasweep.__file__).parent / FOLDERS[group].replace(".", "/")
    builder = re.compile(_BUILDERS.get(group, r"^def build\("), re.MULTILINE)
    files = sorted(file for file in folder.glob("*.py") if not file.stem.startswith("_"))
    return [file.stem for file in files if builder.search(file.read_text(encoding="utf-8"))]


def _range_problems(module: types.ModuleType, bound: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What the module says about knobs that fit their types; nothing when one that it needs is missing."""
    check = getattr(module, "problems", None)
    if check is None:
        return []
    try:
        inspect.signature(check).bind(**bound)
    except TypeError:
        return []
    found: list[tuple[str, str, str]] = check(**bound)
    return found


def builder_knobs(module: types.ModuleType) -> dict[str, Knob]:
    """The keyword-only arguments of `module.build`, as knobs.

    Only their annotations are evaluated, and may name what `records` has: those of positional arguments name
    torch types that are not imported here.
    """
    parameters = inspect.signature(module.build).parameters
    knobs = {
        key: parameter
        for key, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and key not in _RUNTIME
    }
    annotated = types.SimpleNamespace(__annotations__={key: p.annotation for key, p in knobs.items()})
    hints = typing.get_type_hints(annotated, globalns={**vars(records), **vars(module)})
    return {
        key: Knob(hints[key], REQUIRED if p.default is inspect.Parameter.empty else p.default)
        for key, p in knobs.items()
    }
