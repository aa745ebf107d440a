"""Build parts with the knobs that `conf/` ships; builders have no defaults, so a test names its changes."""

from __future__ import annotations

import types
from typing import Any

from lorasweep.config import places
from lorasweep.config.components import FOLDERS


def knobs(group: str, name: str) -> dict[str, Any]:
    """The knobs of `conf/<group>/<name>.yaml`; none without that file."""
    return {key: value for key, value in places.read_choice(group, name).items() if key != "name"}


def build(module: types.ModuleType, *objects: Any, **changes: Any) -> Any:
    """What the module's `build` makes of run-time objects and the shipped knobs, with changes."""
    return module.build(*objects, **{**_knobs_of(module), **changes})


def problems(module: types.ModuleType, **changes: Any) -> list[tuple[str, str, str]]:
    """What the module's `problems` says about the shipped knobs, with changes."""
    found: list[tuple[str, str, str]] = module.problems(**{**_knobs_of(module), **changes})
    return found


def _knobs_of(module: types.ModuleType) -> dict[str, Any]:
    folder, _, name = module.__name__.removeprefix("lorasweep.").rpartition(".")
    group = next(group for group, inside in FOLDERS.items() if inside == folder)
    return knobs(group, name)
