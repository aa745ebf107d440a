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

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from lorasweep import paths
from lorasweep.config.override import as_overrides, parse, repeats
from lorasweep.config.recipe import check_recipe, compose_recipe
from lorasweep.config.spell import spell
from lorasweep.config.yaml_file import read_yaml
from lorasweep.errors import ConfigError, Problem
from lorasweep.records import Recipe, from_dict

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
        overrides: `KEY=VALUE`s, applied after the file's own.

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
        hint = f"a sweep is run by: lorasweep sweep {file}" if held == "sweep" else "see sweeps/README.md"
        raise ConfigError(Problem(file, f"must have one top-level key, `{KEY}`, got {held}", hint))
    problems: list[Problem] = []
    texts = as_overrides(data[KEY], KEY, problems)
    problems += repeats(overrides)
    parsed, found = parse([*texts, *overrides])
    recipe = check_recipe(parsed, problems := [*problems, *found])
    if recipe is None:
        raise ConfigError(problems, subject=f"the recipe {file}")
    return recipe


def read_recorded(file: Path) -> Recipe:
    """Read the recipe that a run wrote down in full (`recipe.yaml`), checked like one that was typed.

    Raises:
        ConfigError: it cannot be read, or is no recipe.
    """
    try:
        recipe = from_dict(Recipe, yaml.safe_load(file.read_text(encoding="utf-8")))
        compose_recipe(spell(recipe))
    except ConfigError as error:
        raise ConfigError(error.problems, subject=str(file)) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())[:200]
        message = f"its recipe cannot be read: {type(error).__name__}: {told}"
        raise ConfigError(Problem(str(file), message, "it is not as lorasweep wrote it")) from error
    return recipe
