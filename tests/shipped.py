"""Build parts with the knobs that `conf/` ships; builders have no defaults, so a test names its changes."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import yaml

from lorasweep.config.components import FOLDERS

CONF = Path(__file__).parents[1] / "conf"


def knobs(group: str, name: str) -> dict[str, Any]:
    """The knobs of `conf/<group>/<name>.yaml`; none without that file."""
    file = CONF / group / f"{name}.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {key: value for key, value in values.items() if key != "name"}


def build(module: types.ModuleType, *objects: Any, **changes: Any) -> Any:
    """What the module's `build` makes of run-time objects and the shipped knobs, with changes."""
    return module.build(*objects, **{**_knobs_of(module), **changes})


def problems(module: types.ModuleType, **changes: Any) -> list[tuple[str, str, str]]:
    """What the module's `problems` says about the shipped knobs, with changes."""
    found: list[tuple[str, str, str]] = module.problems(**{**_knobs_of(module), **changes})
    return found


def _knobs_of(module: types.ModuleType) -> dict[str, Any]:
    _, folder, name = module.__name__.split(".")
    group = next(group for group, inside in FOLDERS.items() if inside == folder)
    return knobs(group, name)
