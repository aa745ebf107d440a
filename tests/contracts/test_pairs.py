"""One real training step of every adapter with every optimizer, with all brakes on that go with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import make_plan, make_recipe

from lorasweep.components.bases import stable_diffusion
from lorasweep.core.protocols import Base
from lorasweep.core.records import Component, Plan
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import make_slot

Choice = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def resources(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Base, LatentCache, TextCache, Plan]:
    """Loaded once: every pair leaves the base as it was."""
    folder = tmp_path_factory.mktemp("pairs")
    recipe = make_recipe(tiny_sd)
    base = stable_diffusion.load(recipe.base, device="cpu", precision="fp32")
    store = Store(folder / "cache")
    return base, LatentCache(base, store), TextCache(base, store), make_plan(recipe, folder / "images")


def test_every_pair_trains(
    adapter_choice: Choice,
    optimizer_choice: Choice,
    tiny_sd: Path,
    resources: tuple[Base, LatentCache, TextCache, Plan],
) -> None:
    base, latents, texts, plan = resources
    brakes: dict[str, dict[str, Any]] = {} if adapter_choice[0] == "dora" else {"scale_norm": {}}
    recipe = make_recipe(
        tiny_sd,
        adapter=Component(name=adapter_choice[0], options=adapter_choice[1]),
        optimizer=Component(name=optimizer_choice[0], options=optimizer_choice[1]),
        scheduler=Component(name="constant"),
        regularization=brakes,
    )
    slot = make_slot(base, recipe, plan, latents=latents, texts=texts)
    try:
        before = slot.adapter.state_dict()
        rows: list[dict[str, float]] = []
        advance([slot], base, steps=1, on_step=lambda slot, metrics: rows.append(metrics))
        with slot.for_use():
            after = slot.adapter.state_dict()
    finally:
        slot.close()
    assert any(not torch.equal(tensor, after[key]) for key, tensor in before.items())
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert rows[0]["train/grad_norm"] > 0 and ("train/norm/max" in rows[0]) == ("scale_norm" in brakes)
