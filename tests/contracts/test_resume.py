"""Interrupted and resumed equals uninterrupted, for every optimizer and for every schedule.

Neither knows of the other, so each optimizer meets one schedule that restarts, and each schedule AdamW.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_training import make_plan, make_recipe

from lorasweep.core.protocols import Base
from lorasweep.core.records import Component, Recipe
from lorasweep.testing import Choice
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.train import checkpoint
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import make_slot

RESTARTS = "annealed_cosine_warmup_restarts"


def test_with_every_optimizer(optimizer_choice: Choice, base: Base, tiny_sd: Path, tmp_path: Path) -> None:
    scheduler = Component(name=RESTARTS)
    check(make_recipe(tiny_sd, optimizer=component(optimizer_choice), scheduler=scheduler), base, tmp_path)


def test_with_every_schedule(scheduler_choice: Choice, base: Base, tiny_sd: Path, tmp_path: Path) -> None:
    check(make_recipe(tiny_sd, scheduler=component(scheduler_choice)), base, tmp_path)


def component(choice: Choice) -> Component:
    name, options = choice
    return Component(name=name, options=options)


def check(recipe: Recipe, base: Base, tmp_path: Path) -> None:
    """2 + 1 steps are 3 steps."""
    plan = make_plan(recipe, tmp_path / "images")
    store = Store(tmp_path / "cache")
    latents, texts = LatentCache(base, store), TextCache(base, store)
    ends = []
    for stops in ((3,), (2, 1)):
        folder = tmp_path / f"checkpoints{len(stops)}"
        for steps in stops:
            slot = make_slot(base, recipe, plan, latents=latents, texts=texts)
            first = slot.adapter.state_dict()
            checkpoint.restore(slot, folder)
            advance([slot], base, steps=steps, on_step=lambda slot, metrics: None)
            checkpoint.save(slot, folder)
            ends.append(slot.adapter.state_dict())
            slot.close()
    assert all(not torch.equal(tensor, first[key]) for key, tensor in ends[0].items())
    assert all(torch.equal(tensor, ends[2][key]) for key, tensor in ends[0].items())
