"""Read recipes from files: as a person shares one, and as a run wrote its own down.

A shared recipe is in the keys of sweep files and the command line:

    recipe:
      base: stable_diffusion
      base.path: models/sd15
      adapter.dim: 16

Keys and values are Hydra overrides; nested keys mean the same as dotted ones. Nothing but data is read, since
either file may be a stranger's. Knows nothing about sweeps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lorasweep.config.components import bind_component
from lorasweep.config.override import as_overrides, parse, repeats, unsafe
from lorasweep.config.recipe import check_recipe, compose_recipe
from lorasweep.config.suggest import MOVED
from lorasweep.config.to_overrides import to_overrides
from lorasweep.config.tree import without_replaced
from lorasweep.config.yaml_file import read_yaml
from lorasweep.core import paths, registry
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.records import Recipe, from_dict, to_dict
from lorasweep.core.run_folder import PLAN_FILE, load_yaml

KEY = "recipe"  # the one top-level key; a sweep file has `sweep`
SUFFIXES = (".yaml", ".yml")


def is_recipe_file(name_or_file: str) -> bool:
    """Whether this is a YAML file whose top-level key says that it holds one recipe.

    Raises:
        ConfigError: it is a YAML file that cannot be read.
    """
    if not name_or_file.endswith(SUFFIXES) or not (path := paths.typed(name_or_file)).is_file():
        return False
    data = read_yaml(path)
    return isinstance(data, Mapping) and KEY in data


def load_recipe(file: str, overrides: Sequence[str] = ()) -> Recipe:
    """Compose the recipe of a file.

    Args:
        file: a path that ends in .yaml, with the one top-level key `recipe`.
        overrides: `KEY=VALUE`s, applied after the file's own; see `without_replaced`.

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
        hint = f"put all of it under `{KEY}:`"
        if held == "sweep":
            hint = f"a sweep is run by: lorasweep sweep {file}"
        elif (path.parent / PLAN_FILE).is_file():
            hint = f"of a run that was cooked: lorasweep train --from {path.parent}"
        raise ConfigError(Problem(file, f"must have one top-level key, `{KEY}`, got {held}", hint))
    problems: list[Problem] = []
    texts = as_overrides(data[KEY], KEY, problems)
    problems += repeats(overrides)
    parsed, found = parse([*without_replaced(texts, overrides), *overrides])
    recipe = check_recipe(parsed, problems := [*problems, *found])
    if recipe is None:
        raise ConfigError(problems, subject=f"the recipe {file}")
    return recipe


def read_recorded(file: Path, *, to_cook: bool = True) -> Recipe:
    """Read the recipe that a run wrote down in full (`recipe.yaml`), checked like one that was typed.

    Args:
        file: the run's. Knobs that its version did not have yet are as in `conf/`.
        to_cook: it is to be cooked again. Otherwise only what its adapter is read by is checked: its images
            and encoders may be gone, and its optimizer's library need not be here.

    Raises:
        ConfigError: it cannot be read, or is no recipe.
    """
    try:
        recipe = from_dict(Recipe, _with_keys_of_now(load_yaml(file.read_text(encoding="utf-8"))))
        return _to_cook(recipe) if to_cook else _to_read(recipe)
    except ConfigError as error:
        raise ConfigError(error.problems, subject=str(file)) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())[:200]
        message = f"its recipe cannot be read: {type(error).__name__}: {told}"
        raise ConfigError(Problem(str(file), message, "it is not as lorasweep wrote it")) from error


def _with_keys_of_now(recorded: Any) -> Any:
    """Move what an earlier version wrote under another key."""
    for old, new in MOVED.items():
        (was, key), (group, name) = old.split("."), new.split(".")
        if key in recorded.get(was, {}):
            recorded.setdefault(group, {})[name] = recorded[was].pop(key)
    return recorded


def _to_cook(recipe: Recipe) -> Recipe:
    """Check all of it; where its results are mirrored and who cooks stay as recorded."""
    checked = compose_recipe(to_overrides(recipe))
    return dataclasses.replace(checked, tracking=recipe.tracking, launcher=recipe.launcher)


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
