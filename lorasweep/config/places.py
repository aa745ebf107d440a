"""Where `conf/` and `sweeps/` are: beside the package in a checkout, inside it in an installed wheel.

A plugin brings a `conf/` of its own, beside its module, whose files are choices like lorasweep's.

Each knob's default stands in `conf/` alone: `read_choice` is how the rest of lorasweep comes by it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

import lorasweep
from lorasweep.core import once, registry
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.files import matching

# Groups of which several files may be picked; each is named in the recipe by its key, its knobs below that.
LIST_GROUPS = ("regularization", "metrics")


def conf_dir() -> Path:
    """Return the folder of `recipe.yaml` and the option groups; absolute."""
    return _data_dir("conf", lorasweep.__file__)


def sweeps_dir() -> Path:
    """Return the folder of the sweep files that come with lorasweep; absolute."""
    return _data_dir("sweeps", lorasweep.__file__)


@functools.cache
def plugin_dirs() -> tuple[Path, ...]:
    """Return the `conf/` folders of the installed plugins."""
    beside = dict.fromkeys(folder / "conf" for plugin in registry.plugins() if (folder := plugin.folder()))
    return tuple(folder for folder in beside if folder.is_dir())


def search_path() -> list[str]:
    """Return the override by which Hydra looks into the plugins' folders; none without plugins."""
    written = ",".join(f'"file://{folder}"' for folder in plugin_dirs())
    return [f"hydra.searchpath=[{written}]"] if written else []


@once.per_arguments
def choices(group: str) -> list[str]:
    """Return the files of an option group, without their suffix, sorted."""
    return sorted({path.stem for conf in (conf_dir(), *plugin_dirs()) for path in matching(conf / group, "*.yaml")})


@once.per_arguments
def choice_files(group: str, choice: str) -> list[Path]:
    """Find the files of a choice: none when there is no such, several when a plugin's is called like another."""
    files = [conf / group / f"{choice}.yaml" for conf in (conf_dir(), *plugin_dirs())]
    return [file for file in files if file.is_file()]


def clash(group: str, choice: str) -> Problem | None:
    """Return the problem with a choice that has several files."""
    files = choice_files(group, choice)
    if len(files) < 2:
        return None
    message = f"is the name of several files: {', '.join(map(str, files))}"
    return Problem(f"{group}={choice}", message, "uninstall the plugin, or rename its file")


def plugin_problems() -> list[Problem]:
    """Tell what is wrong with the plugins' files: names that are taken, and components without a file."""
    found = [clash(group, choice) for group in groups() for choice in choices(group)]
    for file in (file for conf in plugin_dirs() for file in matching(conf, "*/*.yaml")):
        try:
            _read(file)
        except ConfigError as error:
            return error.problems  # any other question would end in it
    found += [without_file(plugin.group, plugin.name) for plugin in registry.plugins()]
    return [problem for problem in found if problem is not None]


def without_file(group: str, name: str) -> Problem | None:
    """Return the problem with a plugin's component that no file of `conf/` is for."""
    named = (read_choice(group, choice).get("name", choice) for choice in choices(group))
    brought = registry.find_plugins(group, name)
    if not brought or name in named:
        return None
    hint = f"it would be conf/{group}/{name}.yaml beside {brought[0].module}: is it among the package's data?"
    return Problem(f"{group}={name}", f"has no file among those of {brought[0]}", hint)


def named(group: str, choice: str) -> str:
    """Return a choice's file as people look it up: `conf/adapter/lora.yaml`, or a plugin's whole path."""
    inside = f"{group}/{choice}.yaml"
    files = choice_files(group, choice)
    return str(files[0]) if files and files[0] != conf_dir() / inside else f"conf/{inside}"


def read_choice(group: str, choice: str) -> Mapping[str, Any]:
    """Read `conf/<group>/<choice>.yaml` as plain data, not to be changed; {} without that file.

    Raises:
        ConfigError: it cannot be read.
    """
    files = choice_files(group, choice)
    return _read(files[0]) if files else {}


def read_map() -> tuple[dict[str, Any], dict[str, Any]]:
    """Read `conf/recipe.yaml`: the choice for each group, and the values of the keys that are no group."""
    values = dict(_read(conf_dir() / "recipe.yaml"))
    chosen = [each for each in values.pop("defaults") if isinstance(each, dict)]  # `_self_` is no group
    return {group: choice for each in chosen for group, choice in each.items()}, values


@functools.cache
def groups() -> tuple[str, ...]:
    """List the parts of a recipe that are folders of `conf/`, in the order of `conf/recipe.yaml`."""
    return tuple(read_map()[0])


@functools.lru_cache(maxsize=256)
def _read(file: Path) -> Mapping[str, Any]:
    try:
        values = OmegaConf.to_container(OmegaConf.load(file))
    except (OSError, ValueError, YAMLError) as error:
        raise _unreadable(file, " ".join(str(error).split())) from error
    if not isinstance(values, dict):
        raise _unreadable(file, "it has no keys")
    return {str(key): value for key, value in values.items()}


def _unreadable(file: Path, why: str) -> ConfigError:
    return ConfigError(Problem(str(file), f"cannot be read: {why}", "mend it, or uninstall the plugin that brings it"))


@functools.cache
def _data_dir(name: str, package_file: str) -> Path:
    package = Path(package_file).resolve().parent
    beside = package.parent / name
    # A site-packages folder may hold somebody else's `conf`: ours has the map in it.
    return beside if (package.parent / "conf" / "recipe.yaml").is_file() else package / "_data" / name
