from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import make_plan, make_recipe

from lorasweep import config, files
from lorasweep.bases import stable_diffusion
from lorasweep.protocols import Adapter, Base
from lorasweep.records import Component, Recipe, to_dict

Cook = Callable[..., tuple[Path, Any]]


@pytest.fixture
def base(tiny_sd: Path) -> Base:
    """The tiny base, freshly loaded."""
    return stable_diffusion.load(make_recipe(tiny_sd).base, device="cpu", precision="fp32")


@pytest.fixture
def cook(base: Base, tiny_sd: Path, home: Path) -> Iterator[Cook]:
    """Make a run folder with a shaken adapter, still in `base`; returns both."""
    made: list[Adapter] = []

    def run(name: str, *, trial: str = "0000-a-s0", **knobs: Any) -> tuple[Path, Any]:
        recipe = make_recipe(tiny_sd, adapter=Component(name=name, options=knobs))
        adapter = importlib.import_module(f"lorasweep.adapters.{name}").build(base, seed=0, **knobs)
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


def write_run(folder: Path, recipe: Recipe, images: Path, adapter: Adapter) -> None:
    """What a finished trial leaves, a rung at step 4 included."""
    images.mkdir(exist_ok=True)
    files.write_text(folder / "recipe.yaml", config.to_yaml(recipe))
    files.write_json(folder / "plan.json", to_dict(make_plan(recipe, images)))
    status = {
        "status": "COMPLETED",
        "arm": "a",
        "seed": 0,
        "step": 8,
        "steps": 8,
        "started_at": 5.0,
        "ended_at": 9.5,
    }
    files.write_json(folder / "status.json", status)
    scores = {"overcook/score": 0.25, "overcook/utility": 0.5}
    rung = {"step": 4, "metrics": {"overcook/score": 0.125}}
    files.write_json(folder / "metrics.json", {"metrics": scores, "rungs": [rung]})
    for place in (folder, folder / "checkpoints" / "step_000004"):
        files.write_atomic(place / "adapter.safetensors", adapter.save)
