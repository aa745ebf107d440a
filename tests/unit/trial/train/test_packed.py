"""Slots that share a forward end with the weights that each would have reached alone."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from tiny_training import train

from lorasweep.core.protocols import DrawsPerBatch
from lorasweep.core.records import Component, NoiseOptions, TrainOptions
from lorasweep.trial.train import packed
from lorasweep.trial.train.loop import Diverged, advance
from lorasweep.trial.train.slot import Slot

LORA = {"dim": 2, "alpha": 1.0}
MIXED: list[dict[str, Any]] = [
    {"adapter": Component(name="lora", options=LORA)},
    {
        "adapter": Component(name="lora", options={"dim": 12, "alpha": 6}),
        "seed": 7,
        "noise": NoiseOptions(
            offset=0.1, adaptive_noise_scale=-0.3, multires_iterations=6, input_perturbation=0.2, loss_type="huber"
        ),
    },
    {"adapter": Component(name="dylora", options={"dim": 4, "unit": 2, "alpha": 1.0}), "seed": 3},
    {"adapter": Component(name="lora", options=LORA), "optimizer": Component(name="prodigy"), "seed": 4},
    {
        "adapter": Component(name="lora", options=LORA),
        "optimizer": Component(name="adamw", options={"loraplus_lr_ratio": 8.0}),
        "seed": 5,
    },
]
LOCONS: list[dict[str, Any]] = [
    {"adapter": Component(name="locon", options={"dim": 2, "conv_dim": dim, "conv_alpha": 1.0}), "seed": dim}
    for dim in (1, 3)
]


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, base: Any) -> None:
    """Everything in float64, what is cast to float32 on the way too."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    base.unet.double()
    base.dtype = torch.float64


def _in_double(slot: Slot) -> Slot:
    for parameter in slot.parameters():
        parameter.data = parameter.data.double()
    return slot


@pytest.mark.parametrize("recipes", [MIXED, LOCONS], ids=["lora", "locon"])
def test_packed_and_alone_end_alike_in_double_precision(
    new_slot: Any, base: Any, double: None, recipes: list[dict[str, Any]]
) -> None:
    one_size = TrainOptions(batch_size=2, max_grad_norm=0.01, device="cpu")
    alone = []
    for recipe in recipes:
        slot = _in_double(new_slot(train=one_size, **recipe))
        train(slot, base, 3)
        alone.append(slot.adapter.state_dict())
        slot.close()
    slots = [_in_double(new_slot(train=one_size, **recipe)) for recipe in recipes]
    asked: list[int] = []  # rows of each forward
    base.unet.register_forward_pre_hook(lambda unet, arguments: asked.append(len(arguments[0])))
    advance(slots, base, steps=3, on_step=lambda slot, metrics: None)
    assert max(asked) >= 2 * 2  # images of one slot's batch: at least two share a forward
    for slot, reached in zip(slots, alone, strict=True):
        for key, tensor in slot.adapter.state_dict().items():
            assert (tensor - reached[key]).abs().max() <= 1e-12 * reached[key].abs().max(), key


def test_one_that_diverges_leaves_the_others_whole(new_slot: Any, base: Any) -> None:
    sick, well = new_slot(), new_slot(seed=1)
    sick.parameters()[0].data.fill_(math.nan)
    with pytest.raises(Diverged) as caught:
        advance([sick, well], base, steps=1, on_step=lambda slot, metrics: None)
    assert caught.value.slot is sick and (sick.step, well.step) == (0, 1)
    assert all(parameter.isfinite().all() for parameter in well.parameters())
    sick.close()
    train(well, base, 1)
    assert well.step == 2


def test_the_others_end_as_they_would_have_beside_nobody(new_slot: Any, base: Any, double: None) -> None:
    one_size = TrainOptions(batch_size=2, device="cpu")
    recipes = [{"seed": 1}, {"seed": 2, "adapter": Component(name="lora", options={"dim": 3, "alpha": 1.0})}]
    alone = []
    for recipe in recipes:
        slot = _in_double(new_slot(train=one_size, **recipe))
        train(slot, base, 4)
        alone.append(slot.adapter.state_dict())
        slot.close()
    well = [_in_double(new_slot(train=one_size, **recipe)) for recipe in recipes]
    sick, passing = (_in_double(new_slot(train=one_size, seed=seed)) for seed in (3, 4))
    advance([well[0], sick, well[1], passing], base, steps=2, on_step=lambda slot, metrics: None)
    sick.parameters()[0].data.fill_(math.nan)
    with pytest.raises(Diverged):
        advance([well[0], sick, well[1], passing], base, steps=1, on_step=lambda slot, metrics: None)
    sick.close()
    passing.close()
    while behind := [slot for slot in well if slot.step < 4]:  # one whose batches were of another size, perhaps
        advance(behind, base, steps=1, on_step=lambda slot, metrics: None)
    for slot, reached in zip(well, alone, strict=True):
        for key, tensor in slot.adapter.state_dict().items():
            assert (tensor - reached[key]).abs().max() <= 1e-12 * reached[key].abs().max(), key


@pytest.mark.parametrize("recipe", [MIXED[1], MIXED[2], LOCONS[1]], ids=["lora", "dylora", "locon"])
@pytest.mark.parametrize("side", [2, 16])  # few rows go beside the base's product, many into its weight
def test_a_product_acts_as_pefts_own_layers_have_it(
    new_slot: Any, base: Any, double: None, recipe: dict[str, Any], side: int
) -> None:
    slot = _in_double(new_slot(**recipe))
    for parameter in slot.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, dtype=torch.float64)
    if isinstance(slot.adapter, DrawsPerBatch):
        base.unet.train()  # in which a drawn rank acts
        slot.adapter.draw(next(seed for seed in range(9) if random.Random(seed).choice([2, 4]) == 2))
    noisy, text = torch.randn(1, 4, side, side), base.encode_captions(["zkw"])["embeds"].double()

    def answer() -> torch.Tensor:
        said: torch.Tensor = base.unet(noisy.double(), torch.tensor([500]), text).sample
        return said

    theirs = answer()
    with packed.joined([slot.adapter.factors()]):
        ours = answer()
    slot.adapter.set_weight(0.0)
    assert not torch.allclose(theirs, answer(), rtol=1e-3)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_who_shares_a_step_is_not_switched_on_at_each(
    new_slot: Any, base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = [new_slot() for _ in range(3)]  # of one seed, whose batches are alike
    switched: list[Any] = []
    monkeypatch.setattr(BaseTunerLayer, "set_adapter", lambda layer, *_, **__: switched.append(layer))
    advance(slots, base, steps=2, on_step=lambda slot, metrics: None)
    assert not switched  # each switch goes through all adapters of a layer
    slots[0].adapter.set_weight(0.0)
    assert len(switched) == len(slots[0].adapter.factors() or ())
