"""The way back: a recipe as the few `KEY=VALUE`s that compose to it.

    Recipe  ->  [optimizer=prodigy, adapter.dim=16, seed=1, ...]

So that a result can be cooked again, or varied, by what a person would type. Files of `conf/` are picked
where they come closest; whatever they do not say is spelled out key by key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorasweep.config import places
from lorasweep.config.override import parse, write
from lorasweep.config.recipe import compose_recipe
from lorasweep.config.tree import compose_tree, without_replaced
from lorasweep.core.errors import ConfigError, InputError, Problem
from lorasweep.core.records import Recipe, to_dict

# Where results are mirrored and who cooks do not belong to what was cooked.
_NOT_THE_RECIPE = ("tracking", "launcher")
_ABSENT: Any = object()


def to_overrides(recipe: Recipe) -> list[str]:
    """Write a recipe as overrides.

    Returns:
        Overrides that `compose_recipe` turns into the same recipe. Keys that it does not have, since it is
        older than they are, get today's defaults.

    Raises:
        InputError: today's `conf/` and modules cannot express it: it was written by another version.
    """
    data = {key: value for key, value in to_dict(recipe).items() if key not in _NOT_THE_RECIPE}
    default, _ = compose_tree([])
    picks = []
    for group in places.GROUPS:
        if group in data and (pick := _pick(group, data[group], default.values.get(group))):
            picks.append(pick)
    composed, _ = compose_tree(parse(picks)[0])
    # A list group that is empty was picked as such, and leaves no key to compare.
    emptied = {key for key in places.LIST_GROUPS if not data.get(key)}
    wanted = {key: _as_typed(value) for key, value in data.items() if key not in emptied}
    found = [*picks, *_differences(wanted, composed.values, "")]
    again = to_dict(compose_recipe(found))
    if lost := _differences(wanted, {key: _as_typed(value) for key, value in again.items()}, ""):
        raise _inexpressible(lost)
    return found


def with_overrides(recipe: Recipe, overrides: Sequence[str]) -> list[str]:
    """Write a recipe as overrides with further ones on top, which take the place of what they give anew."""
    given = {override.key for override in parse(overrides)[0]}
    kept = [text for text in to_overrides(recipe) if text.partition("=")[0] not in given]
    return [*without_replaced(kept, overrides), *overrides]


def _pick(group: str, value: Any, default: Any) -> str | None:
    """The file that comes closest to a group's values; None when that is the default's."""
    if group in places.LIST_GROUPS:
        if set(value) == set(default or {}):
            return None
        return f"{group}=[{','.join(value)}]" if value or group == "metrics" else f"{group}=none"
    typed = _as_typed(value)
    best, fewest = None, _distance(typed, default)
    for choice in places.choices(group):
        distance = _distance(typed, places.read_choice(group, choice))
        if distance < fewest:
            best, fewest = choice, distance
    return None if best is None else f"{group}={best}"


def _distance(typed: Mapping[str, Any], other: Any) -> tuple[bool, int]:
    """Another module is farther than any number of other keys."""
    if not isinstance(other, Mapping):
        return True, len(typed)
    other_name = typed.get("name", _ABSENT) != other.get("name", _ABSENT)
    return other_name, len(list(_differences(typed, other, "")))


def _as_typed(value: Any) -> Any:
    """A component as people type it: its options beside its name."""
    if isinstance(value, Mapping) and set(value) == {"name", "options"}:
        return {"name": value["name"], **value["options"]}
    return value


def _differences(wanted: Mapping[str, Any], have: Mapping[str, Any], prefix: str) -> list[str]:
    """Overrides for every key that differs; people's own dicts whole."""
    found = []
    for key, value in wanted.items():
        before = have.get(key, _ABSENT)
        # An empty dict in conf/ (replacements) is a value, not a group of keys.
        if isinstance(value, Mapping) and isinstance(before, Mapping) and before:
            found += _differences(value, before, f"{prefix}{key}.")
        elif before is _ABSENT or not _equal(value, before):
            found.append(write(f"{prefix}{key}", value))
    return found


def _equal(one: Any, other: Any) -> bool:
    """Equal as data: 1 and 1.0 are, True and 1 are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def _inexpressible(lost: Sequence[str]) -> InputError:
    hint = "cook it with the lorasweep version that its provenance.json names"
    message = "cannot be said in this version's keys"
    return ConfigError([Problem(text, message, hint) for text in lost], subject="the recipe")
