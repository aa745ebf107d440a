"""8-bit AdamW, where bitsandbytes is installed; and the refusal, where it is not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import shipped
import torch
from tiny_training import make_plan, make_recipe

from lorasweep.components.bases import stable_diffusion
from lorasweep.components.optimizers import adamw, adamw8bit
from lorasweep.core.records import Component
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.train import checkpoint
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import make_slot

INSTALLED = importlib.util.find_spec("bitsandbytes") is not None


def parts() -> dict[str, list[torch.nn.Parameter]]:
    large = torch.linspace(-1, 1, 64 * 128).reshape(64, 128)
    return {"unet": [torch.nn.Parameter(large.clone()), torch.nn.Parameter(large[:4, :8].clone())]}


def test_without_the_library_it_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ((key, message, hint),) = shipped.problems(adamw8bit)
    assert key == "name" and "bitsandbytes" in message
    assert "lorasweep[cuda]" in hint and "optimizer=adamw" in hint
    assert [key for key, _, _ in shipped.problems(adamw8bit, lr=0.0, eps=0.0)] == ["lr", "eps", "name"]


@pytest.mark.skipif(not INSTALLED, reason="bitsandbytes is not installed")
def test_large_tensors_are_8_bit_and_end_near_plain_adamw() -> None:
    ours, plain = parts(), parts()
    quantised, exact = shipped.build(adamw8bit, ours, lr=1e-2), shipped.build(adamw, plain, lr=1e-2)
    for _ in range(20):
        for groups, optimizer in ((ours, quantised), (plain, exact)):
            sum((p - 0.3).square().sum() for p in groups["unet"]).backward()  # type: ignore[union-attr]
            optimizer.step()
            optimizer.zero_grad()
    large, small = ours["unet"]
    assert quantised.state[large]["state1"].dtype == torch.uint8
    assert quantised.state[small]["state1"].dtype == torch.float32
    assert adamw8bit.logged(quantised) == {"share_8bit": 64 * 128 / (64 * 128 + 32)}
    moved = (large - parts()["unet"][0]).abs()
    assert moved.mean() > 0.1
    assert (large - plain["unet"][0]).abs().mean() < 0.05 * moved.mean()
    assert torch.allclose(small, plain["unet"][1], atol=1e-5)


@pytest.mark.skipif(not INSTALLED, reason="bitsandbytes is not installed")
def test_8_bit_states_resume_bit_for_bit(tiny_sd: Path, tmp_path: Path) -> None:
    """The contract suite's tensors are too small for 8 bits; these are not."""
    recipe = make_recipe(
        tiny_sd,
        adapter=Component(name="lora", options={"dim": 256}),
        optimizer=Component(name="adamw8bit", options={"lr": 1e-2}),
    )
    plan = make_plan(recipe, tmp_path / "images")
    base = stable_diffusion.load(recipe.base, device="cpu", precision="fp32")
    store = Store(tmp_path / "cache")
    ends = []
    for stops in ((4,), (2, 2)):
        for steps in stops:
            slot = make_slot(base, recipe, plan, latents=LatentCache(base, store), texts=TextCache(base, store))
            checkpoint.restore(slot, tmp_path / f"run{len(stops)}")
            advance([slot], base, steps=steps, on_step=lambda slot, metrics: None)
            checkpoint.save(slot, tmp_path / f"run{len(stops)}")
            assert adamw8bit.logged(slot.optimizer)["share_8bit"] > 0.5
            ends.append(slot.adapter.state_dict())
            slot.close()
    assert all(not torch.equal(ends[1][key], tensor) for key, tensor in ends[0].items())
    assert all(torch.equal(ends[2][key], tensor) for key, tensor in ends[0].items())
