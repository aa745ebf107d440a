"""Bases in half precision: adapters in fp32, and the scaler that keeps small gradients of fp16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fresh_bases import fresh
from tiny_training import make_plan, make_recipe, train

from lorasweep.core.protocols import Base
from lorasweep.core.records import CaptionOptions, Component, TrainOptions
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.train import checkpoint
from lorasweep.trial.train.loop import Diverged
from lorasweep.trial.train.slot import Slot, make_slot

HalfSlot = Callable[..., tuple[Slot, Base]]


@pytest.fixture
def half_slot(tiny_sd: Path, tmp_path: Path) -> Iterator[HalfSlot]:
    """Make slots on a base of their own in half precision; keyword arguments replace fields of the recipe."""
    made: list[Slot] = []

    def make(precision: str, **changes: Any) -> tuple[Slot, Base]:
        options: Any = {"precision": precision, "batch_size": 2, "device": "cpu"}
        changes = {"scheduler": Component(name="constant"), **changes}
        recipe = make_recipe(tiny_sd, train=TrainOptions(**options), **changes)
        base = fresh(recipe.base, precision=precision)
        store = Store(tmp_path / "cache")
        plan = make_plan(recipe, tmp_path / "images")
        slot = make_slot(base, recipe, plan, latents=LatentCache(base, store), texts=TextCache(base, store))
        made.append(slot)
        return slot, base

    yield make
    for slot in made:
        slot.close()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_it_trains_fp32_adapters(half_slot: HalfSlot, precision: str) -> None:
    slot, base = half_slot(precision)
    assert base.unet.conv_in.weight.dtype == base.dtype != torch.float32
    assert {p.dtype for p in slot.parameters()} == {torch.float32}
    assert slot.scaler.is_enabled() == (precision == "fp16")
    before = slot.adapter.state_dict()
    rows = train(slot, base, 3)
    after = slot.adapter.state_dict()
    assert all(0 < row["train/loss"] < 10 and row["train/grad_norm"] > 0 for row in rows)
    assert all(not torch.equal(before[key], after[key]) for key in before)


def test_the_scale_changes_no_gradient(half_slot: HalfSlot) -> None:
    """What is logged and clipped is the gradient itself, whatever the loss was multiplied by."""
    norms = []
    for scale in (1.0, 4096.0):
        slot, base = half_slot("fp16")
        slot.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        norms.append(train(slot, base, 1)[0]["train/grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=0.02) and norms[0] > 0


def test_a_gradient_that_overflows_is_skipped_and_scaled_less(half_slot: HalfSlot) -> None:
    slot, base = half_slot("fp16")
    slot.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100)
    before = slot.adapter.state_dict()
    (row,) = train(slot, base, 1)
    assert "train/grad_norm" not in row and slot.step == 1 and slot.scaler.get_scale() == 2.0**99
    assert all(torch.equal(before[key], value) for key, value in slot.adapter.state_dict().items())


def test_a_gradient_that_no_scale_makes_finite_is_a_divergence(half_slot: HalfSlot) -> None:
    slot, base = half_slot("fp16")
    slot.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-10)
    slot.parameters()[0].register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(Diverged):
        train(slot, base, 20)
    assert 0 < slot.step < 20


def test_a_loss_that_is_nan_is_no_matter_of_scale(half_slot: HalfSlot) -> None:
    slot, base = half_slot("fp16")
    slot.parameters()[0].data.fill_(torch.nan)
    with pytest.raises(Diverged):
        train(slot, base, 1)
    assert slot.step == 0 and slot.scaler.get_scale() == 65536


def test_the_scale_is_resumed(half_slot: HalfSlot, tmp_path: Path) -> None:
    slot, base = half_slot("fp16")
    slot.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100)
    train(slot, base, 2)
    checkpoint.save(slot, tmp_path / "checkpoints")
    again, _ = half_slot("fp16")
    assert again.scaler.get_scale() == 65536
    assert checkpoint.restore(again, tmp_path / "checkpoints") == 2
    assert again.scaler.get_scale() == slot.scaler.get_scale() == 2.0**98


def test_captions_that_training_asks_for_are_encoded_without_autocast(half_slot: HalfSlot) -> None:
    """They are shared with whoever asks later, in this process or after a resume in another order."""
    slot, base = half_slot("bf16", captions=CaptionOptions(shuffle=True, keep_tokens=1))
    seen = []
    encode: Any = base.encode_captions

    def watched(captions: Any) -> Any:
        seen.append(torch.is_autocast_enabled("cpu"))
        return encode(captions)

    base.encode_captions = watched  # type: ignore[method-assign]
    train(slot, base, 2)
    assert seen and not any(seen)
