"""Bind plain data to type hints: every wrong type, broken range, unknown key and missing key at once.

Takes a hint (or a dataclass, or named knobs) and data; gives back the value and appends problems to a list.
pydantic checks; what it finds is said in our words. A hint may carry a `pydantic.Field`:

    ge, gt, le, lt, min_length, pattern   the range
    title         the rule in words, where these do not say it: "be whole steps or a share below 1"
    description   the next step: "4 to 32 is usual"; without one it is to override the knob with
    examples      the first of these, else with the knob's default

Knows nothing about files and groups.
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

from lorasweep.config.suggest import did_you_mean, unknown
from lorasweep.core.errors import Problem
from lorasweep.core.records import to_dict

T = TypeVar("T")
REQUIRED: Any = inspect.Parameter.empty
TO_BE_GIVEN = "???"  # OmegaConf's mark, in our YAML, for a value that only the person knows
_STRICT = ConfigDict(strict=True, allow_inf_nan=False)  # "8" and true are no numbers
_UNIONS = (typing.Union, types.UnionType)
_LISTS = (tuple, list, Sequence, collections.abc.Sequence)
_MAPPINGS = (dict, Mapping, collections.abc.Mapping)


@dataclass(frozen=True)
class Knob:
    """One key that may be given: its type hint, and its default or `REQUIRED`."""

    hint: Any
    default: Any = REQUIRED


def bind_knobs(knobs: Mapping[str, Knob], data: Any, *, at: str, problems: list[Problem], owner: str) -> dict[str, Any]:
    """Fit a dict of values to named knobs.

    Args:
        knobs: what may be given.
        data: what was given.
        at: dotted key of `data`, for the problems.
        problems: appended to.
        owner: what the knobs belong to (``adapter `lora` ``), for the message about unknown keys.

    Returns:
        One value per knob that is right, defaults filled in.
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
    """The knobs of a dataclass: one per field."""
    hints = typing.get_type_hints(cls, include_extras=True)
    knobs = {}
    for field in dataclasses.fields(cls):
        default = REQUIRED if field.default is dataclasses.MISSING else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        knobs[field.name] = Knob(hints[field.name], default)
    return knobs


def bind_value(hint: Any, value: Any, *, at: str, problems: list[Problem], default: Any = None) -> Any:
    """Fit one value to a hint: lists become tuples, and ints floats, where those are wanted.

    Returns:
        The value; None, and one more problem, when it does not fit.
    """
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return bind_record(hint, value, at=at, problems=problems)
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as error:
        problems.append(_problem(hint, value, error.errors(), at, default))
        return None


def describe(hint: Any) -> str:
    """A type hint in words: `int | None` is "a whole number or null"."""
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
    """The hint with its tuples taken from lists, which is what YAML has."""
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
                example = "" if example in (None, REQUIRED) else f"override: {at}={_plain(example)}"
                return Problem(at, f"must {rule}, got {_show(value)}", field.description or example)
    kinds = {error["type"]: error["input"] for error in errors}
    rule = "a finite number" if "finite_number" in kinds else describe(hint)
    if "literal_error" in kinds and (near := did_you_mean(str(kinds["literal_error"]), _choices(hint))):
        rule += f" ({near})"
    quote = "string_type" in kinds and isinstance(value, int | float)
    return Problem(at, f"must be {rule}, got {_show(value)}", "quote it to make it text" if quote else "")


def _fields(hint: Any) -> Iterator[FieldInfo]:
    """Every `Field` in a hint, those of its parts included."""
    for part in typing.get_args(hint):
        if isinstance(part, FieldInfo):
            yield part
        yield from _fields(part)


def _limits(field: FieldInfo) -> dict[str, Any]:
    """What a `Field` demands, in pydantic's words: {"ge": 0, "lt": 1}."""
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
