"""Read `space:` of a sweep file, and what the command line sweeps, into a `Space`.

    space:
      optimizer: choice(adamw,prodigy)
      adapter.dim: tag(log,int(interval(4,64)))
      when:
        optimizer=adamw:   {optimizer.lr: "tag(log,interval(1e-5,5e-4))"}
        optimizer=prodigy: {scheduler: constant, optimizer.d_coef: "interval(0.5,2)"}

A domain is written in Hydra's grammar, in a file as on the command line. A branch may fix a key as well as sweep it,
and have a `when:` of its own. On the command line a swept key replaces the file's axis, and a fixed one pins it: of
the branches on it, only the one that is left stays. Knows nothing about recipes: whether a key exists is found by
composing (`sweep_arms`).
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, RangeSweep
from hydra.errors import HydraException

from lorasweep.config import places
from lorasweep.config.override import first_line, is_special, parse, plain, special, unsafe
from lorasweep.config.space import Axis, Choice, Condition, Domain, Interval, Setting, Space, branch_of, label_of
from lorasweep.config.suggest import did_you_mean
from lorasweep.config.text_value import is_text, read_several, settled
from lorasweep.core.errors import Problem

WHEN = "when"
T = TypeVar("T", Axis, Setting)
EXAMPLES = "choice(a,b), interval(0,1), int(interval(4,64)), tag(log,interval(1e-5,1e-3)), range(1,5)"


@dataclass
class _Reader:
    """Collects axes, settings and problems while it goes down the branches."""

    problems: list[Problem]
    axes: list[Axis] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)

    def block(self, data: Any, when: tuple[Condition, ...], at: str) -> None:
        if not isinstance(data, Mapping):
            self.problems.append(Problem(at, f"must have keys, got {data!r}", f"e.g. {{adapter.dim: {EXAMPLES[:11]}}}"))
            return
        for key, value in _flat(data):
            if key == WHEN:
                self.branches(value, when, f"{at}.{WHEN}")
            else:
                self.entry(key, value, when, f"{at}.{key}")

    def branches(self, data: Any, when: tuple[Condition, ...], at: str) -> None:
        if not isinstance(data, Mapping):
            hint = "e.g. when: {optimizer=adamw: {optimizer.lr: interval(1e-4,1e-2)}}"
            self.problems.append(Problem(at, f"must have conditions, got {data!r}", hint))
            return
        for text, inner in data.items():
            condition = self.condition(str(text), at)
            if condition is not None:
                self.block(inner, (*when, condition), f"{at}.{text}")

    def condition(self, text: str, at: str) -> Condition | None:
        key, equals, values = text.partition("=")
        if not equals or not values:
            hint = "e.g. optimizer=adamw, or optimizer=adamw,lion"
            self.problems.append(Problem(f"{at}.{text}", "a condition is KEY=VALUE", hint))
            return None
        parsed = read_override(text)
        if isinstance(parsed, Swept) and isinstance(parsed.domain, Choice):
            return Condition(key=parsed.key, values=parsed.domain.values)
        overrides, found = parse([text])
        if isinstance(parsed, Problem | Swept) or found:
            swept = isinstance(parsed, Swept)
            message = "a condition names values, one or several" if swept else found[0].message
            self.problems.append(Problem(f"{at}.{text}", message, "e.g. optimizer=adamw,lion"))
            return None
        return Condition(key=overrides[0].key, values=(overrides[0].value,))

    def entry(self, key: str, value: Any, when: tuple[Condition, ...], at: str) -> None:
        if is_special(key):
            self.problems.append(special(at, key))
            return
        found = read_override(f"{key}={value}") if isinstance(value, str) else None
        if isinstance(found, Problem):
            cut = value.count("(") > value.count(")")  # YAML ends `{a: choice(1,2)}` at the comma
            hint = "inside {...} a value with commas needs quotes" if cut else found.hint
            self.problems.append(Problem(at, found.message, hint))
        elif isinstance(found, Swept):
            self.axes.append(Axis(key=key, domain=found.domain, when=when))
        elif when:
            self.settings.append(Setting(key=key, value=settled(key, value), when=when))
        else:
            hint = f"several values are {EXAMPLES}; one value goes under `recipe:`"
            self.problems.append(Problem(at, f"is one value, not several: {value!r}", hint))


def read_space(
    data: Any,
    *,
    swept: Sequence[Swept] = (),
    pinned: Mapping[str, Any] | None = None,
    problems: list[Problem],
) -> Space | None:
    """Read the axes of a sweep from what stands under `space:`, if anything; None when nothing is swept.

    The command line's axes, `swept`, replace the file's of the same key, in all branches; `pinned` are its fixed
    values.
    """
    reader = _Reader(problems)
    if data is not None:
        reader.block(data, (), "sweep.space")
    again = {each.key for each in swept}
    axes = [axis for axis in reader.axes if axis.key not in again]
    axes += [Axis(key=each.key, domain=each.domain) for each in swept]
    axes, settings = _pin(axes, reader.settings, pinned or {})
    if not axes:
        return None
    return Space(axes=_in_order(axes, problems), settings=tuple(settings))


def _flat(data: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested keys as the dotted ones that they mean; below `when` they are conditions."""
    rows: list[tuple[str, Any]] = []
    for key, value in data.items():
        if isinstance(value, Mapping) and not (key == WHEN and not prefix):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


def _pin(
    axes: Sequence[Axis], settings: Sequence[Setting], pinned: Mapping[str, Any]
) -> tuple[list[Axis], list[Setting]]:
    """Leave out pinned axes, and the branches that a pinned value rules out."""
    searched = {axis.key for axis in axes}

    def left(when: tuple[Condition, ...]) -> tuple[Condition, ...] | None:
        asked = [each for each in when if each.key in pinned and each.key in searched]
        if not all(each.holds(pinned) for each in asked):
            return None
        return tuple(each for each in when if each not in asked)

    def kept(items: Sequence[T]) -> list[T]:
        free = [each for each in items if each.key not in pinned]
        return [dataclasses.replace(each, when=when) for each in free if (when := left(each.when)) is not None]

    return kept(axes), kept(settings)


def _in_order(axes: Sequence[Axis], problems: list[Problem]) -> tuple[Axis, ...]:
    """Put every axis after those that its conditions ask; conditions that cannot hold are problems."""
    ordered: list[Axis] = []
    waiting = list(axes)
    while waiting:
        pending = {axis.key for axis in waiting}
        ready = [axis for axis in waiting if not any(each.key in pending for each in axis.when)]
        if not ready:
            names = ", ".join(axis.name for axis in waiting)
            message = f"conditions that wait for each other can never hold: {names}"
            problems.append(Problem("sweep.space.when", message))
            return tuple(ordered)
        ordered += ready
        waiting = [axis for axis in waiting if axis not in ready]
    return tuple(ordered)


def condition_problems(space: Space) -> list[Problem]:
    """Find conditions that never hold: on a key that is not searched, or on a value it does not have."""
    domains: dict[str, list[Axis]] = {}
    for axis in space.axes:
        domains.setdefault(axis.key, []).append(axis)
    found = []
    for condition in space.conditions:
        where = f"sweep.space.when.{condition}"
        axes = domains.get(condition.key)
        if not axes:
            near = did_you_mean(condition.key, domains)
            hint = near or f"sweep it ({condition.key}: choice(...)), or move these keys out of `when:`"
            found.append(Problem(where, f"`{condition.key}` is not searched, so there is nothing to ask", hint))
            continue
        for value in condition.values:
            if any(value in axis.domain for axis in axes if axis.domain.values is not None):
                continue
            known = [str(each) for axis in axes for each in axis.domain.values or ()]
            if not known:
                found.append(Problem(where, f"`{condition.key}` is an interval; a condition needs countable values"))
                continue
            hint = did_you_mean(str(value), known) or f"values: {', '.join(known)}"
            found.append(Problem(where, f"never holds: {condition.key} is never {value!r}", hint))
    return found


def overlap_problems(space: Space) -> list[Problem]:
    """Find keys that two branches (or a branch and the space itself) give at the same time."""
    items: list[Axis | Setting] = [*space.axes, *space.settings]
    found = []
    for index, first in enumerate(items):
        for second in items[index + 1 :]:
            if first.key != second.key:
                continue
            if any(one.excludes(other) for one in first.when for other in second.when):
                continue
            pair = " and ".join(branch_of(each.when) or "the space itself" for each in (first, second))
            found.append(
                Problem(
                    f"sweep.space.{first.key}",
                    f"is given twice where branches overlap: {pair} can hold together",
                    "give it in one of them, or make the conditions exclude each other",
                )
            )
    return found


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
            return Problem(text.partition("=")[0], f"cannot be read: {first_line(error)}", f"e.g. {EXAMPLES}")
        return None
    if not parsed.is_sweep_override() or parsed.package is not None:
        return None
    key = parsed.key_or_group.replace("/", ".")
    domain = _domain(key, parsed._value)
    return domain if isinstance(domain, Problem) else Swept(key=key, domain=domain, text=text)


def _parser() -> OverridesParser:
    """Make Hydra's parser, whose `choice()` takes no null although `a,b` does."""
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
        known = places.choices(key) if key in places.groups() else []
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
    ends = sorted(round(end, 12) for end in (start, start + (count - 1) * step))  # not 0.8999999999999999
    integer = all(isinstance(each, int) for each in (start, stop, step))
    return Interval(low=ends[0], high=ends[1], integer=integer, step=abs(step))
