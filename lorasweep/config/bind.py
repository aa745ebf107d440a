"""Bind plain data to type hints: every wrong type, unknown key and missing key at once.

Takes a hint (or a dataclass, or a set of keyword arguments) and data; gives back the value and appends
problems to a list. Knows nothing about files, groups or ranges.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from lorasweep.config.suggest import did_you_mean, unknown
from lorasweep.core.errors import Problem

T = TypeVar("T")
REQUIRED: Any = dataclasses.MISSING
TO_BE_GIVEN = "???"  # OmegaConf's mark, in our YAML, for a value that only the person knows


@dataclass(frozen=True)
class Knob:
    """One key that may be given: its type hint, and its default or `REQUIRED`."""

    hint: Any
    default: Any = REQUIRED


@dataclass(frozen=True)
class Scalar:
    """An unquoted number or boolean of a YAML file: text where text is wanted, else its value."""

    text: str
    value: bool | int | float

    def __repr__(self) -> str:
        return self.text

    __str__ = __repr__


class WrongTypeError(Exception):
    """A value does not fit its hint; carries what was expected."""


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
        value = bind_value(knob.hint, data[key], at=where, problems=problems)
        if len(problems) == before:
            bound[key] = value
    return bound


def bind_record(cls: type[T], data: Any, *, at: str, problems: list[Problem]) -> T | None:
    """Fit a dict of values to a dataclass; None when something is wrong."""
    before = len(problems)
    bound = bind_knobs(record_knobs(cls), data, at=at, problems=problems, owner=f"`{at}`")
    return cls(**bound) if len(problems) == before else None


def record_knobs(cls: Any) -> dict[str, Knob]:
    """The knobs of a dataclass: one per field."""
    hints = typing.get_type_hints(cls)
    knobs = {}
    for field in dataclasses.fields(cls):
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        knobs[field.name] = Knob(hints[field.name], default)
    return knobs


def bind_value(hint: Any, value: Any, *, at: str, problems: list[Problem]) -> Any:
    """Fit one value to a hint; a problem is appended when it does not fit."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return bind_record(hint, value, at=at, problems=problems)
    try:
        return fit(hint, value)
    except WrongTypeError as error:
        advice = "quote it to make it text" if _wants_text(hint) and isinstance(value, int | float) else ""
        problems.append(Problem(at, f"must be {error}, got {_show(value)}", advice))
        return None


def fit(hint: Any, value: Any) -> Any:
    """Return `value` as `hint` wants it: ints become floats where a float is wanted, lists become tuples.

    Raises:
        WrongTypeError: with what was expected, in words.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if isinstance(value, Scalar):
        return value.text if hint is str else fit(hint, value.value)
    if origin in (typing.Union, types.UnionType):
        return _fit_union(hint, arguments, value)
    if origin is Literal:
        if value not in arguments or isinstance(value, bool) not in {isinstance(a, bool) for a in arguments}:
            raise WrongTypeError(describe(hint) + _near(value, arguments))
        return value
    if origin in (tuple, list, Sequence, collections.abc.Sequence):
        return _fit_list(hint, origin, arguments, value)
    if origin in (dict, Mapping, collections.abc.Mapping):
        if not isinstance(value, Mapping):
            raise WrongTypeError(describe(hint))
        return {fit(arguments[0], key): fit(arguments[1], inner) for key, inner in value.items()}
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise WrongTypeError("a finite number")
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (bool, str) and isinstance(value, hint):
        return value
    raise WrongTypeError(describe(hint))


def describe(hint: Any) -> str:
    """A type hint in words: `int | None` is "a whole number or null"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(a) for a in arguments)
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in arguments)
    if origin in (tuple, list, Sequence, collections.abc.Sequence):
        if origin is tuple and Ellipsis not in arguments:
            return f"a list of {len(arguments)}: " + ", ".join(describe(a) for a in arguments)
        return f"a list ({describe(arguments[0])} each)"
    if origin in (dict, Mapping, collections.abc.Mapping):
        return "keys with values" if arguments[1] is Any else f"keys with {describe(arguments[1])} each"
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        knobs = record_knobs(hint)
        return f"keys ({', '.join(name if k.default is REQUIRED else f'{name}?' for name, k in knobs.items())})"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return words.get(hint, str(hint))


def _fit_union(hint: Any, arguments: tuple[Any, ...], value: Any) -> Any:
    if value is None and type(None) in arguments:
        return None
    candidates = [a for a in arguments if a is not type(None)]
    # An exact type first, so that `int | float` keeps 3 an int.
    for candidate in sorted(candidates, key=lambda a: type(value) is not a):
        try:
            return fit(candidate, value)
        except WrongTypeError:
            continue
    raise WrongTypeError(describe(hint))


def _fit_list(hint: Any, origin: Any, arguments: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise WrongTypeError(describe(hint))
    fixed = origin is tuple and Ellipsis not in arguments
    if fixed and len(value) != len(arguments):
        raise WrongTypeError(describe(hint))
    inner = arguments if fixed else arguments[:1] * len(value)
    try:
        items = [fit(a, item) for a, item in zip(inner, value, strict=True)]
    except WrongTypeError as error:
        raise WrongTypeError(describe(hint)) from error
    return items if origin is list else tuple(items)


def _near(value: Any, arguments: tuple[Any, ...]) -> str:
    near = did_you_mean(str(value), [str(a) for a in arguments])
    return f" ({near})" if near else ""


def _wants_text(hint: Any) -> bool:
    return hint is str or str in typing.get_args(hint)


def _show(value: Any) -> str:
    text = {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))
    return text if len(text) <= 60 else text[:57] + "..."
