"""LoRA+: the second factors' own rate is PEFT's, is logged and planned, and is refused where it has no meaning."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from tiny_training import train

from lorasweep.config import compose_recipe
from lorasweep.core import registry
from lorasweep.core.errors import ConfigError
from lorasweep.core.protocols import Base
from lorasweep.core.records import Component
from lorasweep.plan.learning_rate import curves

RATIO = 8.0


def plain(**knobs: Any) -> dict[str, Component]:
    """A recipe whose rate stays."""
    optimizer = Component(name="adamw", options={"lr": 1e-3, "weight_decay": 0.0, **knobs})
    return {"optimizer": optimizer, "scheduler": Component(name="constant")}


def test_it_trains_as_pefts_own(base: Base, new_slot: Any) -> None:
    ours = new_slot(**plain(loraplus_lr_ratio=RATIO))
    rows = train(ours, base, 4)
    reached = ours.adapter.state_dict()
    ours.close()
    assert rows[-1]["train/lr/unet.up"] == RATIO * rows[-1]["train/lr/unet"] == RATIO * 1e-3

    theirs = new_slot(**plain())
    model: Any = base.parts["unet"]
    knobs = {"betas": (0.9, 0.999), "eps": 1e-8, "fused": True}
    theirs.optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=RATIO, **knobs)
    for number, group in enumerate(theirs.optimizer.param_groups):
        group |= {"name": str(number), "initial_lr": group["lr"]}
    train(theirs, base, 4)
    for key, tensor in theirs.adapter.state_dict().items():
        torch.testing.assert_close(reached[key], tensor, rtol=1e-6, atol=1e-9)
    theirs.close()


@pytest.mark.parametrize("name", ["adamw", "lion", "adafactor", "came", "schedule_free_adamw"])
def test_every_part_has_the_ratio_over_its_own_rate(name: str) -> None:
    recipe = compose_recipe([f"optimizer={name}", "optimizer.lr=1e-4", "optimizer.loraplus_lr_ratio=16"])
    one = torch.nn.Parameter(torch.zeros(1))
    groups = {key: [one.clone().detach()] for key in ("unet", "unet.up", "text_encoder", "text_encoder.up")}
    knobs = {**recipe.optimizer.options, "text_encoder_lr": 5e-5}
    made = registry.load("optimizer", name).build(groups, **knobs)
    peaks = {group["name"]: group["initial_lr"] for group in made.param_groups}
    assert peaks == pytest.approx({"unet": 1e-4, "unet.up": 1.6e-3, "text_encoder": 5e-5, "text_encoder.up": 8e-4})
    planned = {curve.part: curve.highest for curve in curves(recipe, 10)}
    assert planned == pytest.approx({"unet": 1e-4, "unet.up": 1.6e-3}, rel=0.2)  # of a schedule's first steps


@pytest.mark.parametrize("adapter", ["lora", "locon", "dora", "dylora"])
def test_it_is_the_factor_that_starts_at_zero(new_slot: Any, adapter: str) -> None:
    words = [f"adapter={adapter}", "adapter.dim=4", "adapter.text_encoder=true", "optimizer.loraplus_lr_ratio=16"]
    typed = compose_recipe(words)
    slot = new_slot(adapter=typed.adapter, optimizer=typed.optimizer)
    groups = {group["name"]: group["params"] for group in slot.optimizer.param_groups}
    assert sorted(groups) == ["text_encoder", "text_encoder.up", "unet", "unet.up"]
    for name, parameters in groups.items():
        assert all(bool((parameter == 0).all()) == name.endswith(".up") for parameter in parameters), name
    assert sum(map(len, groups.values())) == len(slot.adapter.state_dict())
    slot.close()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["optimizer=prodigy"], "unknown key for optimizer `prodigy`"),
        (["adapter=loha"], "of the factors down and up of a LoRA, which loha does not have, got 16"),
        (["adapter=ia3"], "which ia3 does not have"),
    ],
)
def test_where_it_has_no_meaning_it_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        compose_recipe([*words, "optimizer.loraplus_lr_ratio=16"])


def test_a_recipe_without_it_is_the_one_from_before_there_was_such_a_knob() -> None:
    recipe = compose_recipe([])
    knobs = dict(recipe.optimizer.options)
    assert knobs.pop("loraplus_lr_ratio", "") is None
    before = dataclasses.replace(recipe, optimizer=Component(name="adamw", options=knobs))
    assert recipe.fingerprint() == before.fingerprint()
    assert compose_recipe(["optimizer.loraplus_lr_ratio=1"]).fingerprint() != recipe.fingerprint()
