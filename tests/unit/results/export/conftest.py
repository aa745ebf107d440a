from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import shipped
import torch
from fresh_bases import fresh
from run_folders import write_run
from tiny_training import make_recipe

from lorasweep.core import registry
from lorasweep.core.protocols import Adapter, Base
from lorasweep.core.records import Component

Cook = Callable[..., tuple[Path, Any]]


@pytest.fixture
def base(tiny_sd: Path) -> Base:
    """The tiny base, freshly loaded."""
    return fresh(make_recipe(tiny_sd).base)


@pytest.fixture
def cook(base: Base, tiny_sd: Path, home: Path) -> Iterator[Cook]:
    """Make a run folder with a shaken adapter, still in `base`; returns both."""
    made: list[Adapter] = []

    def run(name: str, *, trial: str = "0000-a-s0", **knobs: Any) -> tuple[Path, Any]:
        recipe = make_recipe(tiny_sd, adapter=Component(name=name, options=knobs))
        adapter = shipped.build(registry.load("adapter", name), base, seed=0, **knobs)
        made.append(adapter)
        generator = torch.Generator().manual_seed(1)
        for parameter in [p for part in adapter.parameters().values() for p in part]:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        folder = home / "outputs" / "sweep" / trial
        write_run(folder, recipe, home / "images", adapter)
        return folder, adapter

    yield run
    for adapter in made:
        adapter.remove()
