"""With an optimizer that averages its iterates, what is saved for use is the average."""

from __future__ import annotations

from pathlib import Path

import torch
from fresh_bases import fresh
from safetensors.torch import load_file
from tiny_training import make_plan, make_recipe

from lorasweep.core.records import Component
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.train import checkpoint
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import make_slot


def test_the_average_is_saved_for_use_and_the_iterate_to_resume(tiny_sd: Path, tmp_path: Path) -> None:
    optimizer = Component(name="schedule_free_adamw", options={"lr": 1e-2})
    recipe = make_recipe(tiny_sd, optimizer=optimizer, scheduler=Component(name="constant"))
    base = fresh(recipe.base)
    store = Store(tmp_path / "cache")
    slot = make_slot(
        base,
        recipe,
        make_plan(recipe, tmp_path / "images"),
        latents=LatentCache(base, store),
        texts=TextCache(base, store),
    )
    advance([slot], base, steps=4, on_step=lambda slot, metrics: None)
    iterate = slot.adapter.state_dict()
    with slot.for_use():
        average = slot.adapter.state_dict()
    assert all(not torch.equal(average[key], tensor) for key, tensor in iterate.items())

    folder = checkpoint.save(slot, tmp_path / "checkpoints")

    saved = load_file(folder / "adapter.safetensors")
    assert saved.keys() == average.keys()
    assert all(torch.equal(saved[key], tensor) for key, tensor in average.items())
    resumable = load_file(folder / "state.safetensors")
    assert all(torch.equal(resumable[f"adapter/{key}"], tensor) for key, tensor in iterate.items())
    slot.close()
