"""Read recipes from files, as a person shares one, and as a run wrote its own down; and the way back to `KEY=VALUE`s.

A shared recipe is in the keys of sweep files and the command line:

    recipe:
      base: stable_diffusion
      base.path: models/sd15
      adapter.dim: 16

Keys and values are Hydra overrides; nested keys mean the same as dotted ones. Nothing but data is read, since
either file may be a stranger's.

    to_overrides(Recipe)  ->  [optimizer=prodigy, adapter.dim=16, seed=1, ...]

So a result can be cooked again, or varied, by what a person would type: files of `conf/` are picked where they come
closest; whatever they do not say is spelled out key by key. Knows nothing about sweeps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lorasweep.config import places
from lorasweep.config.bind import bind_component
from lorasweep.config.override import Override, as_overrides, parse, repeats, unsafe
from lorasweep.config.recipe import check_recipe, compose_recipe
from lorasweep.config.suggest import MOVED, file_advice
from lorasweep.config.tree import compose_tree, without_replaced
from lorasweep.config.yaml_file import read_yaml
from lorasweep.core import once, paths, registry
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.hydra_text import write
from lorasweep.core.printable import command
from lorasweep.core.records import NOT_THE_RECIPE, Recipe, from_dict, to_dict
from lorasweep.core.run_folder import PLAN_FILE, load_yaml

KEY = "recipe"  # the one top-level key; a sweep file has `sweep`
SUFFIXES = (".yaml", ".yml")
_ABSENT: Any = object()


def is_recipe_file(name_or_file: str) -> bool:
    """Tell whether this is a YAML file that holds one recipe; raises ConfigError where the file cannot be read."""
    if not name_or_file.endswith(SUFFIXES) or not (path := paths.typed(name_or_file)).is_file():
        return False
    data = read_yaml(path)
    return isinstance(data, Mapping) and KEY in data


def load_recipe(file: str, overrides: Sequence[str] = ()) -> Recipe:
    """Compose the recipe of a .yaml whose one key is `recipe`, its own overrides first; see `without_replaced`.

    Raises:
        ConfigError: with every problem of the file and of the recipe at once.
    """
    path = paths.typed(file)
    if not path.is_file():
        hint = f"looked at {path.absolute()}; keys are given as KEY=VALUE"
        raise ConfigError(Problem(file, "no such recipe file", hint))
    data = read_yaml(path)
    if not isinstance(data, Mapping) or set(data) != {KEY}:
        held = ", ".join(map(str, data)) if isinstance(data, Mapping) else "a list"
        hint = file_advice(file, data) or f"put all of it under `{KEY}:`"
        if held == "sweep":
            hint = f"a sweep is run by: {command('lorasweep', 'sweep', file)}"
        elif again := of_run(path.parent):
            hint = again
        raise ConfigError(Problem(file, f"must have one top-level key, `{KEY}`, got {held}", hint))
    problems: list[Problem] = []
    texts = as_overrides(data[KEY], KEY, problems)
    problems += repeats(overrides)
    parsed, found = parse([*without_replaced(texts, overrides), *overrides])
    recipe = check_recipe(parsed, problems := [*problems, *found])
    if recipe is None:
        raise ConfigError(problems, subject=f"the recipe {file}")
    return recipe


def of_run(folder: Path) -> str:
    """Return the next step with a file in the folder of a run; nothing where it is none."""
    cooked = (folder / PLAN_FILE).is_file()
    return f"of a run that was cooked: {command('lorasweep', 'train', '--from', str(folder))}" if cooked else ""


def read_recorded(file: Path, *, to_cook: bool = True) -> Recipe:
    """Read the recipe that a run wrote down in full (`recipe.yaml`), checked like one that was typed.

    Args:
        file: the run's. Knobs that its version did not have yet are as in `conf/`.
        to_cook: it is to be cooked again. Otherwise only what its adapter is read by is checked: its images
            and encoders may be gone, and its optimizer's library need not be here.

    Raises:
        ConfigError: it cannot be read, or is no recipe.
    """
    with _reading(file):
        recipe = _recorded(load_yaml(file.read_text(encoding="utf-8")))
        if not to_cook:
            return _to_read(recipe)
        # Where its results are mirrored and who cooks stay as recorded.
        return dataclasses.replace(
            compose_recipe(to_overrides(recipe)), tracking=recipe.tracking, launcher=recipe.launcher
        )


def read_exported(file: Path, text: str) -> list[Override]:
    """Return what the recipe in an exported file's header, its `text`, says; raises as `read_recorded`."""
    with _reading(file):
        return parse(to_overrides(_recorded(json.loads(text))))[0]


def _recorded(recorded: Any) -> Recipe:
    """Rebuild the recipe, moving what an earlier version wrote under another key."""
    for old, new in MOVED.items():
        (was, key), (group, name) = old.split("."), new.split(".")
        if key in recorded.get(was, {}):
            recorded.setdefault(group, {})[name] = recorded[was].pop(key)
    return from_dict(Recipe, recorded)


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Say of which file it is that a recipe cannot be read."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(error.problems, subject=str(file)) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        said = isinstance(error, ValueError | yaml.YAMLError)
        told = " ".join(str(error).split())[:200] if said else getattr(error, "strerror", "cut or changed by hand")
        hint = "it is not as lorasweep wrote it: the command that trained it writes it anew"
        raise ConfigError(Problem(str(file), f"its recipe cannot be read: {told}", hint)) from error


def _to_read(recipe: Recipe) -> Recipe:
    """Check what its adapter is read by: that it is data, and its base and adapter are among today's."""
    problems, adapter = list(unsafe("", to_dict(recipe))), None
    for group, name in (("base", recipe.base.name), ("adapter", recipe.adapter.name)):
        if name not in registry.names(group):
            problems.append(Problem(f"{group}.name", f"no {group} is called {name!r}"))
    if not problems:
        given = {"name": recipe.adapter.name, **recipe.adapter.options}
        adapter = bind_component("adapter", given, problems=problems)
    if adapter is None:
        raise ConfigError(problems)
    return dataclasses.replace(recipe, adapter=adapter)


def to_overrides(recipe: Recipe) -> list[str]:
    """Write a recipe as overrides that compose to it; keys that are younger than it get today's defaults.

    Raises:
        InputError: today's `conf/` and modules cannot express it: it was written by another version.
    """
    data = {key: value for key, value in to_dict(recipe).items() if key not in NOT_THE_RECIPE}
    default, _ = compose_tree([])
    picks = []
    for group in places.groups():
        if group in data and (pick := _pick(group, data[group], default.values.get(group))):
            picks.append(pick)
    composed, _ = compose_tree(parse(picks)[0])
    wanted = {key: _as_typed(value) for key, value in data.items()}
    found = [*picks, *_differences(wanted, composed.values, "")]
    again, problems = compose_tree(parse(found)[0])  # unchecked: what it names may be elsewhere by now
    if lost := [*map(str, problems), *_differences(wanted, again.values, "")]:
        hint = "cook it with the lorasweep version that its provenance.json names"
        message = "cannot be said in this version's keys"
        raise ConfigError([Problem(text, message, hint) for text in lost], subject="the recipe")
    return found


def with_overrides(recipe: Recipe, overrides: Sequence[str]) -> list[str]:
    """Write a recipe as overrides with further ones on top, which take the place of what they give anew."""
    given = {override.key for override in parse(overrides)[0]}
    kept = [text for text in to_overrides(recipe) if text.partition("=")[0] not in given]
    return [*without_replaced(kept, overrides), *overrides]


@once.per(lambda group, value, default: (group, repr(value), repr(default)))
def _pick(group: str, value: Any, default: Any) -> str | None:
    """Return the file that comes closest to a group's values; None when that is the default's."""
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
    """Count what differs; another module is farther than any number of other keys."""
    if not isinstance(other, Mapping):
        return True, len(typed)
    other_name = typed.get("name", _ABSENT) != other.get("name", _ABSENT)
    return other_name, len(list(_differences(typed, other, "")))


def _as_typed(value: Any) -> Any:
    """Return a component as people type it: its options beside its name."""
    if isinstance(value, Mapping) and set(value) == {"name", "options"}:
        return {"name": value["name"], **value["options"]}
    return value


def _differences(wanted: Mapping[str, Any], have: Mapping[str, Any], prefix: str) -> list[str]:
    """List overrides for every key that differs; people's own dicts whole. Null is what a key has that is not there."""
    found = []
    for key, value in wanted.items():
        before = have.get(key, _ABSENT)
        # An empty dict in conf/ (replacements) is a value, not a group of keys.
        if isinstance(value, Mapping) and isinstance(before, Mapping) and before:
            found += _differences(value, before, f"{prefix}{key}.")
        elif not (value is None and before is _ABSENT) and (before is _ABSENT or not _equal(value, before)):
            found.append(write(f"{prefix}{key}", value))
    return found


def _equal(one: Any, other: Any) -> bool:
    """Compare as data: 1 and 1.0 are equal, True and 1 are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
