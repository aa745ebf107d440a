"""Read `space:` of a sweep file, and what the command line sweeps, into a `Space`.

    space:
      optimizer: choice(adamw,prodigy)
      adapter.dim: tag(log,int(interval(4,64)))
      when:
        optimizer=adamw:   {optimizer.lr: "tag(log,interval(1e-5,5e-4))"}
        optimizer=prodigy: {scheduler: constant, optimizer.d_coef: "interval(0.5,2)"}

A branch may fix a key as well as sweep it, and have a `when:` of its own. On the command line a swept key
replaces the file's axis, and a fixed one pins it: of the branches on it, only the one that is left stays.
Knows nothing about recipes: whether a key exists is found by composing (`space_check`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lorasweep.config.override import is_special, parse, special
from lorasweep.config.space import Axis, Choice, Condition, Setting, Space, branch_of
from lorasweep.config.space_grammar import EXAMPLES, Swept, read_override
from lorasweep.config.suggest import did_you_mean
from lorasweep.config.text_value import settled
from lorasweep.core.errors import Problem

WHEN = "when"
T = TypeVar("T", Axis, Setting)


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
    """Read the axes of a sweep.

    Args:
        data: what stands under `space:`; None when there is nothing.
        swept: the command line's axes; each replaces the file's of the same key, in all branches.
        pinned: the command line's fixed values, by key.
        problems: appended to.

    Returns:
        None when nothing is swept.
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
    """Nested keys mean the same as dotted ones; below `when` they are conditions."""
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
