"""Read the domain of an axis in Hydra's grammar: `choice(a,b)`, `tag(log,int(interval(4,64)))`.

    read_override("optimizer.lr=interval(0,1)") -> Swept    several values: an axis
    read_override("optimizer.lr=0.5")           -> None     one value: not ours

The same text means the same in a sweep file and on the command line. Knows nothing about which keys exist.
"""

from __future__ import annotations

import fnmatch
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, RangeSweep
from hydra.errors import HydraException

from lorasweep.config import places
from lorasweep.config.override import parse, plain, unsafe
from lorasweep.config.space import Choice, Domain, Interval, label_of
from lorasweep.config.text_value import is_text, read_several
from lorasweep.core.errors import Problem

EXAMPLES = "choice(a,b), interval(0,1), int(interval(4,64)), tag(log,interval(1e-5,1e-3)), range(1,5)"


@dataclass(frozen=True)
class Swept:
    """A `KEY=VALUE` whose value is several values."""

    key: str
    domain: Domain
    text: str


def split(texts: Sequence[str]) -> tuple[list[str], list[Swept], list[Problem]]:
    """Part overrides into those with one value, as they are, and those with several."""
    fixed: list[str] = []
    swept: list[Swept] = []
    problems: list[Problem] = []
    for text in texts:
        found = read_override(text)
        if found is None:
            fixed.append(text)
        elif isinstance(found, Swept):
            swept.append(found)
        else:
            problems.append(found)
    return fixed, swept, problems


def read_override(text: str) -> Swept | Problem | None:
    """Read a `KEY=VALUE` if it gives several values; None when it gives one, or cannot be read at all."""
    key, equals, value = text.partition("=")
    if equals and is_text(key):
        try:
            values = read_several(key, value)
        except ValueError:
            return None  # `parse` says what is wrong with it
        if values is None:
            return None
        choice = _choice_of(key, tuple(values))
        return choice if isinstance(choice, Problem) else Swept(key=key, domain=choice, text=text)
    overrides, _ = parse([text])
    if overrides:
        return None
    try:
        parsed = _parser().parse_override(text)
    except HydraException as error:
        # `tag(log,interval(1))` is a sweep with a mistake in it; the grammar of one value would not tell.
        name = text.partition("=")[2].partition("(")[0]
        if name in ("choice", "interval", "range", "tag", "int", "float", "glob", "shuffle", "sort"):
            return Problem(text.partition("=")[0], f"cannot be read: {_reason(error)}", f"e.g. {EXAMPLES}")
        return None
    if not parsed.is_sweep_override() or parsed.package is not None:
        return None
    key = parsed.key_or_group.replace("/", ".")
    domain = _domain(key, parsed._value)
    return domain if isinstance(domain, Problem) else Swept(key=key, domain=domain, text=text)


def _parser() -> OverridesParser:
    """Hydra's parser, whose `choice()` takes no null although `a,b` does."""
    functions = create_functions()
    signature = functions.definitions["choice"]
    (values,) = signature.parameters.values()
    with_null = values.replace(annotation=typing.Optional[values.annotation])  # noqa: UP045 - it is a value
    functions.definitions["choice"] = signature.replace(parameters=[with_null])
    return OverridesParser(functions)


def _domain(key: str, value: Any) -> Domain | Problem:
    tags = set(getattr(value, "tags", ()))
    if tags - {"log"}:
        return Problem(key, f"unknown tag {', '.join(sorted(tags - {'log'}))}", "tags: log")
    if getattr(value, "shuffle", False):
        return Problem(key, "shuffle() means nothing to a search: the sampler chooses", "use choice()")
    if tags and not isinstance(value, IntervalSweep):
        return Problem(key, "tag(log,...) needs an interval", "e.g. tag(log,interval(1e-5,1e-3))")
    if isinstance(value, IntervalSweep):
        return _interval(key, value, log="log" in tags)
    if isinstance(value, RangeSweep):
        return _range(key, value)
    return _choice(key, value)


def _choice(key: str, value: ChoiceSweep | Glob) -> Domain | Problem:
    if isinstance(value, Glob):
        known = places.choices(key) if key in places.GROUPS else []
        found = [
            name
            for name in known
            if any(fnmatch.fnmatch(name, pattern) for pattern in value.include)
            and not any(fnmatch.fnmatch(name, pattern) for pattern in value.exclude)
        ]
        if not found:
            return Problem(key, f"glob({','.join(value.include)}) matches no file", f"conf/{key}/")
        return Choice(tuple(found))
    return _choice_of(key, tuple(plain(each) for each in value.list))


def _choice_of(key: str, values: tuple[Any, ...]) -> Choice | Problem:
    if problem := next(unsafe(key, list(values)), None):
        return problem
    labels = [label_of(each) for each in values]
    # 0 and 0.0 are one value, true and 1 are not.
    if len({(isinstance(each, bool), each) for each in labels}) < len(labels):
        return Problem(key, f"must not repeat a value, got {', '.join(map(str, labels))}")
    if len(values) < 2:
        return Problem(key, "has one value, so there is nothing to search", "put it under `recipe:`")
    return Choice(values)


def _interval(key: str, value: IntervalSweep, *, log: bool) -> Domain | Problem:
    low, high = value.start, value.end
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return Problem(key, "must have two finite ends", f"e.g. {EXAMPLES}")
    if low >= high:
        return Problem(key, f"must grow from left to right, got {low:g} to {high:g}", "swap the ends")
    if log and low <= 0:
        return Problem(key, f"tag(log,...) needs ends above 0, got {low:g}", "e.g. interval(1e-5,1e-3)")
    integer = isinstance(low, int) and isinstance(high, int)
    return Interval(low=low, high=high, log=log, integer=integer)


def _range(key: str, value: RangeSweep) -> Domain | Problem:
    start, stop, step = value.start, value.stop, value.step
    if start is None or stop is None or not step or (stop - start) / step <= 1:
        return Problem(key, "range(start,stop,step) must hold two values or more", "e.g. range(1,5)")
    count = math.ceil((stop - start) / step - 1e-9)
    ends = sorted((start, start + (count - 1) * step))
    integer = all(isinstance(each, int) for each in (start, stop, step))
    return Interval(low=ends[0], high=ends[1], integer=integer, step=abs(step))


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].strip()
