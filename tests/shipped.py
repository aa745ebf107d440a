"""Build parts with the knobs that `conf/` ships; builders have no defaults, so a test names its changes."""

from __future__ import annotations

import types
from typing import Any

from lorasweep.config import places
from lorasweep.config.bind import bind_options
from lorasweep.core import registry
from lorasweep.core.errors import Problem


def knobs(group: str, name: str) -> dict[str, Any]:
    """The knobs of `conf/<group>/<name>.yaml`; none without that file."""
    return {key: value for key, value in places.read_choice(group, name).items() if key != "name"}


def build(module: types.ModuleType, *objects: Any, **changes: Any) -> Any:
    """What the module's `build` makes of run-time objects and the shipped knobs, with changes."""
    return module.build(*objects, **{**knobs(*_named(module)), **changes})


def problems(module: types.ModuleType, **changes: Any) -> list[tuple[str, str, str]]:
    """What is wrong with the shipped knobs, with changes: (knob, message, next step)."""
    found: list[Problem] = []
    group, name = _named(module)
    bind_options(group, name, module, {**knobs(group, name), **changes}, at=group, problems=found)
    return [(each.where.removeprefix(f"{group}."), each.message, each.hint) for each in found]


def _named(module: types.ModuleType) -> tuple[str, str]:
    folder, _, name = module.__name__.removeprefix("lorasweep.").rpartition(".")
    return next(group for group, inside in registry.FOLDERS.items() if inside == folder), name


def shake(adapter: Any, by: float = 0.1) -> Any:
    """Move all trained tensors at random, as if trained, so that each says something; returns the generator."""
    import torch

    generator = torch.Generator().manual_seed(1)
    for parameter in [parameter for part in adapter.parameters().values() for parameter in part]:
        parameter.data += by * torch.randn(parameter.shape, generator=generator)
    return generator
