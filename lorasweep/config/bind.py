"""Bind plain data to type hints: every wrong type, broken range, unknown key and missing key at once.

Takes a hint (or a dataclass, named knobs, a component's module) and data; gives back the value and appends problems to
a list. pydantic checks; what it finds is said in our words. A hint may carry a `pydantic.Field`:

    ge, gt, le, lt, min_length, pattern   the range
    title         the rule in words, where these do not say it: "be whole steps or a share below 1"
    description   the next step: "4 to 32 is usual"; without one it is to override the knob with
    examples      the first of these, else with the knob's default

A component (`name` plus knobs) is one Python file and one YAML: `adapter: {name: lora, dim: 32}` resolves to `build` in
`lorasweep/components/adapters/lora.py`; its keyword-only arguments are the knobs, each with its type and range, its
positional ones are objects that only exist at run time. Builders import torch inside, so reading their signature costs
nothing. What is not given is as in `conf/<group>/<name>.yaml`, the one place of a knob's default. A module may also
have `problems(*, some, knobs) -> list[tuple[key, message, hint]]`, for what no single knob can say: it is asked once
those that it names are right.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import json
import operator
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Strict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from lorasweep.config import places
from lorasweep.config.suggest import did_you_mean, unknown
from lorasweep.core import records, registry
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.records import Component, to_dict

T = TypeVar("T")
REQUIRED: Any = inspect.Parameter.empty
TO_BE_GIVEN = "???"  # OmegaConf's mark, in our YAML, for a value that only the person knows
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)  # "8" and true are no numbers
_UNIONS = (typing.Union, types.UnionType)
_LISTS = (tuple, list, Sequence, collections.abc.Sequence)
_MAPPINGS = (dict, Mapping, collections.abc.Mapping)
_RUNTIME = {"seed"}  # keyword-only in builders, but given by the recipe, not by the component's YAML


@dataclass(frozen=True)
class Knob:
    """One key that may be given: its type hint, and its default or `REQUIRED`."""

    hint: Any
    default: Any = REQUIRED


def bind_knobs(knobs: Mapping[str, Knob], data: Any, *, at: str, problems: list[Problem], owner: str) -> dict[str, Any]:
    """Fit a dict of values to named knobs, and give one value per knob that is right, defaults filled in.

    For the problems, `at` is the dotted key of `data`, and `owner` what the knobs belong to (``adapter `lora` ``).
    """
    if not isinstance(data, Mapping):
        problems.append(Problem(at, f"must have keys ({', '.join(knobs)}), got {data!r}"))
        return {}
    bound: dict[str, Any] = {}
    for key in data:
        if key not in knobs:
            known = f"keys: {', '.join(knobs)}" if knobs else "it has no keys"
            message = unknown(f"unknown key for {owner}", str(key), knobs)
            problems.append(Problem(f"{at}.{key}".lstrip("."), message, known))
    for key, knob in knobs.items():
        where = f"{at}.{key}".lstrip(".")
        if key not in data:
            if knob.default is REQUIRED:
                problems.append(Problem(where, f"is missing: {owner} needs {describe(knob.hint)}"))
            else:
                bound[key] = knob.default
            continue
        if data[key] == TO_BE_GIVEN:
            problems.append(Problem(where, "must be given", f"override: {where}=..."))
            continue
        before = len(problems)
        value = bind_value(knob.hint, data[key], at=where, problems=problems, default=knob.default)
        if len(problems) == before:
            bound[key] = value
    return bound


def bind_record(cls: type[T], data: Any, *, at: str, problems: list[Problem]) -> T | None:
    """Fit a dict of values to a dataclass; None when something is wrong."""
    before, hint = len(problems), typing.cast(Any, cls)
    bound = bind_knobs(record_knobs(hint), data, at=at, problems=problems, owner=f"`{at}`")
    return cls(**bound) if len(problems) == before else None


@functools.cache
def record_knobs(cls: Any) -> dict[str, Knob]:
    """Return the knobs of a dataclass: one per field."""
    hints = typing.get_type_hints(cls, include_extras=True)
    knobs = {}
    for field in dataclasses.fields(cls):
        default = REQUIRED if field.default is dataclasses.MISSING else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        knobs[field.name] = Knob(hints[field.name], default)
    return knobs


def bind_value(hint: Any, value: Any, *, at: str, problems: list[Problem], default: Any = None) -> Any:
    """Fit one value to a hint, lists becoming tuples and ints floats; None, and a problem, where it does not fit."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return bind_record(hint, value, at=at, problems=problems)
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as error:
        problems.append(_problem(hint, value, error.errors(), at, default))
        return None


def describe(hint: Any) -> str:
    """Return a type hint in words: `int | None` is "a whole number or null"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return describe(arguments[0])
    if origin in _UNIONS:
        return " or ".join(describe(a) for a in arguments)
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in arguments)
    if origin in _LISTS:
        if origin is tuple and Ellipsis not in arguments:
            return f"a list of {len(arguments)}: " + ", ".join(describe(a) for a in arguments)
        return f"a list ({describe(arguments[0])} each)"
    if origin in _MAPPINGS:
        return "keys with values" if arguments[1] is Any else f"keys with {describe(arguments[1])} each"
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        knobs = record_knobs(hint)
        return f"keys ({', '.join(name if k.default is REQUIRED else f'{name}?' for name, k in knobs.items())})"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return words.get(hint, str(hint))


@functools.cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(_from_lists(hint), config=_STRICT)


def _from_lists(hint: Any) -> Any:
    """Return the hint with its tuples taken from lists, which is what YAML has."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return Annotated[(_from_lists(arguments[0]), *arguments[1:])]
    if origin is None or origin is Literal:
        return hint
    inner = tuple(map(_from_lists, arguments))
    if origin in _UNIONS:
        return functools.reduce(operator.or_, inner)
    return Annotated[origin[inner], Strict(False)] if origin is tuple else origin[inner]


def _problem(hint: Any, value: Any, errors: Sequence[ErrorDetails], at: str, default: Any) -> Problem:
    """Say what pydantic found about one value: the rule that it breaks, and the next step."""
    # A list whose items are wrong is also called too short: of those that are right.
    for error in [each for each in errors if each["type"] != "too_short"] or errors:
        if error["type"] == "value_error":
            return Problem(at, f"{error['ctx']['error']}, got {_show(value)}")
        for field in _fields(hint):
            if _limits(field).items() & error.get("ctx", {}).items():
                rule = field.title or _interval(_limits(field))
                example = (field.examples or [default])[0]
                hint = "" if example in (None, REQUIRED) else f"override: {at}={_plain(example)}"
                return Problem(at, f"must {rule}, got {_show(value)}", field.description or hint)
    kinds = {error["type"]: error["input"] for error in errors}
    rule = "a finite number" if "finite_number" in kinds else describe(hint)
    if "literal_error" in kinds and (near := did_you_mean(str(kinds["literal_error"]), _choices(hint))):
        rule += f" ({near})"
    quote = "string_type" in kinds and isinstance(value, int | float)
    return Problem(at, f"must be {rule}, got {_show(value)}", "quote it to make it text" if quote else "")


def _fields(hint: Any) -> Iterator[FieldInfo]:
    """Return every `Field` in a hint, those of its parts included."""
    for part in typing.get_args(hint):
        if isinstance(part, FieldInfo):
            yield part
        yield from _fields(part)


def _limits(field: FieldInfo) -> dict[str, Any]:
    """Return what a `Field` demands, in pydantic's words: {"ge": 0, "lt": 1}."""
    parts: list[Any] = field.metadata  # frozen dataclasses for bounds, plain objects for the rest
    found = [dataclasses.asdict(part) if hasattr(part, "__dataclass_fields__") else vars(part) for part in parts]
    return {key: value for limits in found for key, value in limits.items()}


def _interval(limits: Mapping[str, Any]) -> str:
    if "min_length" in limits:
        return "not be empty"
    text = {key: str(limit) if isinstance(limit, int) else f"{limit:g}" for key, limit in limits.items()}
    low, high = (next((key for key in keys if key in limits), "") for keys in (("ge", "gt"), ("le", "lt")))
    if low and high:
        brackets = f"{'[' if low == 'ge' else '('}%s{']' if high == 'le' else ')'}"
        return f"be in {brackets % f'{text[low]}, {text[high]}'}"
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return f"be {signs[low or high]} {text[low or high]}"


def _choices(hint: Any) -> list[str]:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return list(map(str, arguments))
    return [choice for part in arguments for choice in _choices(part)]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(to_dict(value), separators=(",", ":"))


def _show(value: Any) -> str:
    text = {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))
    return text if len(text) <= 60 else text[:57] + "..."


def bind_component(group: str, data: Any, *, problems: list[Problem]) -> Component | None:
    """Check the `name` and the knobs of one component group; None when something is wrong."""
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str) or data["name"] == TO_BE_GIVEN:
        got = data.get("name") if isinstance(data, Mapping) else data
        problems.append(Problem(f"{group}.name", f"must be a name, got {got!r}", f"choose a file: {group}=..."))
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
    """Check knobs against a module's `build`: JSON-able, what is not given as in `conf/`; None where one is wrong."""
    before, shipped = len(problems), places.read_choice(at.split(".")[0], name)
    knobs = {key: Knob(knob.hint, shipped.get(key, knob.default)) for key, knob in builder_knobs(module).items()}
    if isinstance(data, Mapping):
        data = {**{key: shipped[key] for key in knobs if key in shipped}, **data}
    bound = bind_knobs(knobs, data, at=at, problems=problems, owner=f"{group} `{name}`")
    for index in range(before, len(problems)):
        problems[index] = with_owners(problems[index], group, at)
    problems += [Problem(f"{at}.{key}", message, hint) for key, message, hint in _relations(module, bound)]
    options: dict[str, Any] = to_dict(bound)
    return options if len(problems) == before else None


def with_owners(problem: Problem, group: str, at: str) -> Problem:
    """Say of an unknown knob which other parts of the group have it."""
    if not problem.message.startswith("unknown key") or group not in registry.FOLDERS:
        return problem
    knob = problem.where.removeprefix(f"{at}.")
    modules = registry.modules(group)
    owners = [f"{group}={name}" for name, module in modules.items() if knob in builder_knobs(module)]
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
    """Return what the module says about its knobs together; nothing when one that it needs is wrong."""
    check = getattr(module, "problems", None)
    if check is None or not (needed := inspect.signature(check).parameters.keys()) <= bound.keys():
        return []
    found: list[tuple[str, str, str]] = check(**{key: bound[key] for key in needed})
    return found


@functools.cache
def builder_knobs(module: types.ModuleType) -> Mapping[str, Knob]:
    """Return the keyword-only arguments of `module.build`, as knobs.

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
