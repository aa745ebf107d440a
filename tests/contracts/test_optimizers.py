"""What every optimizer promises, for each file of conf/optimizer/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import make_plan, make_recipe

from lorasweep.core import registry
from lorasweep.core.protocols import Base
from lorasweep.core.records import Component
from lorasweep.trial.cache.latents import LatentCache
from lorasweep.trial.cache.store import Store
from lorasweep.trial.cache.texts import TextCache
from lorasweep.trial.train import checkpoint
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import make_slot

Choice = tuple[str, dict[str, Any]]


@pytest.fixture
def module(optimizer_choice: Choice) -> Any:
    return registry.load("optimizer", optimizer_choice[0])


def parts() -> dict[str, list[torch.nn.Parameter]]:
    return {
        "unet": [torch.nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))],
        "text_encoder": [torch.nn.Parameter(torch.tensor([0.5, 0.25]))],
    }


def test_groups_are_named_and_have_a_peak(module: Any, optimizer_choice: Choice) -> None:
    optimizer = module.build(parts(), **optimizer_choice[1])
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert [group["name"] for group in optimizer.param_groups] == ["unet", "text_encoder"]
    assert all(group["initial_lr"] > 0 for group in optimizer.param_groups)
    assert len(module.build({"unet": parts()["unet"]}, **optimizer_choice[1]).param_groups) == 1


def test_it_goes_down_and_lr_zero_stands_still(module: Any, optimizer_choice: Choice) -> None:
    groups = parts()
    optimizer = module.build(groups, **optimizer_choice[1])
    parameters = [p for part in groups.values() for p in part]
    losses = []
    for step in range(200):
        before = [p.detach().clone() for p in parameters]
        for group in optimizer.param_groups:
            group["lr"] = 0.0 if step == 0 else group["initial_lr"]
        optimizer.zero_grad()
        loss = torch.stack([p.square().sum() for p in parameters]).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step == 0:  # as after a warm-up's first step
            assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))
    assert losses[-1] < losses[0]


def test_what_it_logs_are_finite_numbers(module: Any, optimizer_choice: Choice) -> None:
    optimizer = module.build(parts(), **optimizer_choice[1])
    found = getattr(module, "logged", lambda optimizer: {})(optimizer)
    json.dumps(found, allow_nan=False)
    assert all(isinstance(value, float) for value in found.values())


def test_resumed_equals_uninterrupted(
    optimizer_choice: Choice, scheduler_choice: Choice, base: Base, tiny_sd: Path, tmp_path: Path
) -> None:
    """2 + 2 steps are 4 steps, for every optimizer with every schedule."""
    recipe = make_recipe(
        tiny_sd,
        optimizer=Component(name=optimizer_choice[0], options=optimizer_choice[1]),
        scheduler=Component(name=scheduler_choice[0], options=scheduler_choice[1]),
    )
    plan = make_plan(recipe, tmp_path / "images")
    store = Store(tmp_path / "cache")
    latents, texts = LatentCache(base, store), TextCache(base, store)
    ends = []
    for stops in ((4,), (2, 2)):
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
