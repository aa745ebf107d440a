"""Resolve the names of components to modules: lorasweep's own, and those of installed plugins.

A name in a recipe is a module in the group's folder, or an entry point `lorasweep.<folder>` of an installed
distribution (`lorasweep.optimizers`), never a path: installing a plugin is the consent, and a recipe stays
data. Listing names imports nothing. Knows nothing about what a module holds.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import types
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import lorasweep
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.records import Recipe

FOLDERS = {  # config group -> folder of its modules; entry points are named by its last word
    "base": "components.bases",
    "buckets": "components.buckets",
    "adapter": "components.adapters",
    "optimizer": "components.optimizers",
    "scheduler": "components.schedulers",
    "regularization": "components.regularizers",
    "metrics": "components.metrics",
    "tagger": "components.taggers",
    "launcher": "sweep.launchers",
}


@dataclass(frozen=True, order=True)
class Plugin:
    """One name that an installed distribution adds to a group."""

    group: str
    name: str
    module: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"

    def folder(self) -> Path | None:
        """Return the folder of its module, found without importing it; None for a module that is in no package."""
        package, *inner = self.module.split(".")[:-1] or [self.module]
        spec = importlib.util.find_spec(package)  # through the finders of editable installs too
        roots = spec.submodule_search_locations if spec else None
        return Path(next(iter(roots)), *inner) if roots else None

    def digest(self) -> str:
        """Digest of its version and of the sources in its folder."""
        found = hashlib.sha256(str(self).encode())
        folder = self.folder()
        for file in sorted(folder.rglob("*.py")) if folder else ():
            found.update(file.read_bytes())
        return found.hexdigest()


@functools.cache
def plugins() -> tuple[Plugin, ...]:
    """List every name that an installed plugin adds, sorted; those that clash included."""
    installed = metadata.entry_points()  # reads every distribution's metadata
    found = [
        Plugin(group, point.name, point.module, point.dist.name, point.dist.version)
        for group, folder in FOLDERS.items()
        for point in installed.select(group=f"lorasweep.{folder.rpartition('.')[2]}")
        if point.dist
    ]
    return tuple(sorted(found))


def used(recipe: Recipe) -> tuple[Plugin, ...]:
    """Return the plugins that decide a recipe's result."""
    named = [(group, getattr(recipe, group).name) for group in ("base", "buckets", "adapter", "optimizer", "scheduler")]
    named += [(group, name) for group in ("regularization", "metrics") for name in getattr(recipe, group)]
    return tuple(plugin for group, name in named for plugin in find_plugins(group, name))


def names(group: str) -> list[str]:
    """Return the names of a group, sorted; nothing is imported."""
    return sorted({*_own(group), *(plugin.name for plugin in plugins() if plugin.group == group)})


def load(group: str, name: str) -> types.ModuleType:
    """Import the module of a name.

    Raises:
        ConfigError: there is none, there are two, or a plugin's cannot be imported.
    """
    if problem := clash(group, name):
        raise ConfigError(problem, subject="the installed plugins")
    if name in _own(group):
        return importlib.import_module(f"lorasweep.{FOLDERS[group]}.{name}")
    if not (brought := find_plugins(group, name)):
        choices = f"choices: {', '.join(names(group))}"
        raise ConfigError(Problem(f"{group}.name", f"no {group} is called {name!r}", choices))
    (plugin,) = brought
    try:
        return importlib.import_module(plugin.module)
    except Exception as error:  # whatever a stranger's module does when it is imported
        message = f"the plugin {plugin} cannot be imported: {type(error).__name__}: {error}"
        raise ConfigError(Problem(f"{group}={name}", message, "mend or uninstall it")) from error


def modules(group: str) -> dict[str, types.ModuleType]:
    """Import the modules of a group by name; a plugin's that cannot be is left to whoever names it, and to `doctor`."""
    found = {}
    for name in names(group):
        with suppress(ConfigError):
            found[name] = load(group, name)
    return found


def find_plugins(group: str, name: str) -> tuple[Plugin, ...]:
    """Return the plugins that add this name to a group: none for lorasweep's own, several where they clash."""
    return tuple(plugin for plugin in plugins() if (plugin.group, plugin.name) == (group, name))


def clash(group: str, name: str) -> Problem | None:
    """Return the problem with a name that more than one of lorasweep and the plugins has."""
    owners = [*(["lorasweep"] if name in _own(group) else []), *map(str, find_plugins(group, name))]
    if len(owners) < 2:
        return None
    return Problem(f"{group}={name}", f"is added by {' and by '.join(owners)}", "uninstall one of them")


@functools.cache
def _own(group: str) -> tuple[str, ...]:
    folder = Path(lorasweep.__file__).parent.joinpath(*FOLDERS[group].split("."))
    return tuple(sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_")))
