"""A search space: axes, some of which exist only under a condition, and what a point of it means.

    Space.walk(choose) -> Point     one value per axis that is there, and the recipe's overrides that they are
    Space.grid()       -> Points    all of them, when every axis has a finite number of values

An axis under a condition has a name of its own (`optimizer.lr[adamw]`), so that a search never mistakes one
branch's values for another's. Knows nothing about files, Hydra's grammar or Optuna.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorasweep.config import places
from lorasweep.core.hydra_text import write

Label = str | int | float | bool
_MOST_COUNTED = 100_000  # values of an interval
_MOST_NAMED = 2  # numbers in the name of a point


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    @property
    def labels(self) -> tuple[Label, ...]:
        """The values as a study can hold them: lists and null become text."""
        return tuple(label_of(value) for value in self.values)

    def draw(self, rng: random.Random) -> Any:
        """Draw one value."""
        return rng.choice(self.values)

    def take(self, value: Any) -> Any:
        """Return the value that a label or a value means; a ValueError when it is out of reach."""
        return self.values[self.labels.index(label_of(value))]

    def __contains__(self, value: Any) -> bool:
        return label_of(value) in self.labels

    def __str__(self) -> str:
        return f"choice({','.join(write('', value)[1:] for value in self.values)})"


@dataclass(frozen=True)
class Interval:
    """Every number between two, both included; `step` numbers apart when that is given."""

    low: float
    high: float
    log: bool = False
    integer: bool = False
    step: float | None = None

    @property
    def values(self) -> tuple[float, ...] | None:
        """All values, when they can be counted; None when they cannot, or nobody would."""
        count = self._count
        return tuple(map(self._at, range(count))) if 0 < count <= _MOST_COUNTED else None

    @property
    def _count(self) -> int:
        """How many values there are; 0 when there is no end of them."""
        step = self.step or (1 if self.integer else None)
        return 0 if step is None else int((self.high - self.low) / step + 1e-9) + 1

    def _at(self, index: int) -> float:
        value = self.low + index * (self.step or 1)
        return int(value) if self.integer else round(value, 12)

    def draw(self, rng: random.Random) -> float:
        """Draw one value, evenly or evenly by its logarithm."""
        if self.step is not None:
            return self._at(rng.randrange(self._count))
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
            value = min(max(value, self.low), self.high)
        else:
            value = rng.uniform(self.low, self.high)
        return round(value) if self.integer else value

    def take(self, value: Any) -> float:
        """Return the number; a ValueError when it is out of reach."""
        if value not in self:
            raise ValueError(f"{self} does not reach {value!r}")
        if self.step is not None:
            return self._at(round((value - self.low) / self.step))
        return int(value) if self.integer else float(value)

    def __contains__(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.step is not None:
            index = round((value - self.low) / self.step)
            return 0 <= index < self._count and abs(value - self._at(index)) < 1e-9
        return self.low <= value <= self.high and (not self.integer or value == int(value))

    def __str__(self) -> str:
        if self.step is not None:
            return f"range({self.low:g},{self.high + self.step:g},{self.step:g})"
        text = f"interval({self.low!r},{self.high!r})"
        text = f"int({text})" if self.integer else text
        return f"tag(log,{text})" if self.log else text


Domain = Choice | Interval


@dataclass(frozen=True)
class Condition:
    """Holds where the axis `key` has one of `values`."""

    key: str
    values: tuple[Any, ...]

    def holds(self, chosen: Mapping[str, Any]) -> bool:
        """Tell whether it holds for what was chosen so far; an axis that is not there holds nothing."""
        return self.key in chosen and label_of(chosen[self.key]) in map(label_of, self.values)

    def excludes(self, other: Condition) -> bool:
        """Tell whether the two can never hold together."""
        return self.key == other.key and not set(map(label_of, self.values)) & set(map(label_of, other.values))

    def __str__(self) -> str:
        return f"{self.key}={','.join(str(label_of(value)) for value in self.values)}"


@dataclass(frozen=True)
class Axis:
    """A key of the recipe whose value is searched."""

    key: str
    domain: Domain
    when: tuple[Condition, ...] = ()

    @property
    def name(self) -> str:
        """Its name in a study; one per branch."""
        return self.key + branch_of(self.when)


@dataclass(frozen=True)
class Setting:
    """A key of the recipe that has one value in one branch."""

    key: str
    value: Any
    when: tuple[Condition, ...]


@dataclass(frozen=True)
class Point:
    """One choice per axis that is there."""

    params: Mapping[str, Label]  # by the axes' names, as a study holds them
    values: Mapping[str, Any]  # by the recipe's keys, what the branch fixes included

    @property
    def overrides(self) -> tuple[str, ...]:
        """What makes the recipe, as `KEY=VALUE`s; choices of files first."""
        keys = sorted(self.values, key=lambda key: key not in places.groups())
        return tuple(write(key, self.values[key]) for key in keys)

    @property
    def picks(self) -> tuple[str, ...]:
        """What was chosen, for the point's name: files (`adamw`, `locon`), and numbers (`lr0.001`) if few."""
        chosen = [(name.partition("[")[0], label) for name, label in self.params.items()]
        numbers = [
            f"{key.rpartition('.')[2]}{f'{label:.3g}' if isinstance(label, float) else label}".replace("+", "")
            for key, label in chosen
            if isinstance(label, int | float) and not isinstance(label, bool)
        ]
        files = [str(label) for key, label in chosen if key in places.groups()]
        return (*files, *(numbers if len(numbers) <= _MOST_NAMED else ()))


@dataclass(frozen=True)
class Space:
    """Axes in an order in which every condition comes after the axis that it asks."""

    axes: tuple[Axis, ...]
    settings: tuple[Setting, ...] = ()

    def walk(self, choose: Callable[[Axis], Any]) -> Point:
        """Choose a value of its domain for every axis whose conditions hold."""
        return next(self.every(lambda axis: (choose(axis),)))

    def every(self, candidates: Callable[[Axis], Iterable[Any]]) -> Iterator[Point]:
        """List every point that can be made from the candidates of its axes, the last axis changing fastest."""
        return self._grow(candidates, self.axes, {}, {})

    def _grow(
        self,
        candidates: Callable[[Axis], Iterable[Any]],
        axes: Sequence[Axis],
        params: dict[str, Label],
        values: dict[str, Any],
    ) -> Iterator[Point]:
        if not axes:
            held = (each for each in self.settings if all(c.holds(values) for c in each.when))
            yield Point(params=params, values=values | {each.key: each.value for each in held})
            return
        axis, *rest = axes
        if not all(condition.holds(values) for condition in axis.when):
            yield from self._grow(candidates, rest, params, values)
            return
        for value in candidates(axis):
            yield from self._grow(candidates, rest, params | {axis.name: label_of(value)}, values | {axis.key: value})

    def point(self, params: Mapping[str, Label]) -> Point | None:
        """Return the point that a study's params mean; None when they are not (or no longer) one of this space."""
        try:
            found = self.walk(lambda axis: axis.domain.take(params[axis.name]))
        except (KeyError, ValueError):
            return None
        return found if found.params.keys() == params.keys() else None

    def locate(self, value_of: Callable[[str], Any]) -> Point | None:
        """Find the point whose axes have the values of a recipe by key; None when one is out of its axis' reach."""
        try:
            return self.walk(lambda axis: axis.domain.take(value_of(axis.key)))
        except ValueError:
            return None

    def grid(self) -> Iterator[Point]:
        """List every point of a space whose axes all have an end of values; raises ValueError where one has none."""
        return self.every(_values)

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key of the recipe that the space decides."""
        return tuple(dict.fromkeys([each.key for each in self.axes] + [each.key for each in self.settings]))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Every condition that is asked somewhere."""
        asked = [each.when for each in self.axes] + [each.when for each in self.settings]
        found = [condition for when in asked for condition in when]
        return tuple(each for index, each in enumerate(found) if each not in found[:index])  # lists have no hash

    def describe(self) -> dict[str, str]:
        """Return the declaration, by name, in Hydra's grammar: to be kept, and compared with a later one."""
        lines = {axis.name: str(axis.domain) for axis in self.axes}
        return lines | {
            setting.key + branch_of(setting.when): write("", setting.value)[1:] for setting in self.settings
        }


def branch_of(when: Sequence[Condition]) -> str:
    """Return `[adamw]`, or `[adapter.dim=8]` where it is not a choice of files; empty without conditions."""
    parts = [
        "|".join(str(label_of(value)) for value in condition.values)
        if condition.key in places.groups()
        else str(condition)
        for condition in when
    ]
    return f"[{','.join(parts)}]" if parts else ""


def label_of(value: Any) -> Label:
    """Return a value as a study can hold it."""
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)


def _values(axis: Axis) -> Sequence[Any]:
    values = axis.domain.values
    if values is None:
        raise ValueError(f"{axis.name} has no end of values: {axis.domain}")
    return values
