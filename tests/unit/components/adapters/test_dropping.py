"""Ranks and layers that are left out while training: as sd-scripts and LyCORIS have it, and nobody else notices."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from tiny_training import train
from torch.nn import functional as F

from lorasweep.components.regularizers.scale_norm import ScaleNorm
from lorasweep.config import compose_recipe
from lorasweep.core import registry
from lorasweep.core.errors import ConfigError
from lorasweep.core.protocols import Base
from lorasweep.core.records import Component, TrainOptions
from lorasweep.plan import packing
from lorasweep.trial.train import checkpoint
from lorasweep.trial.train.loop import advance

DROPS = {"rank_dropout": 0.3, "module_dropout": 0.3}
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"dim": 4, "alpha": 2.0, "targets": "full", **DROPS},
    "locon": {"dim": 4, "alpha": 2.0, "conv_dim": 2, "conv_alpha": 1.0, **DROPS},
    "loha": {"dim": 2, "alpha": 1.0, "module_dropout": 0.3},
    "lokr": {"dim": 4, "alpha": 1.0, **DROPS},
}


def built(base: Base, name: str, **knobs: Any) -> Any:
    given = {**compose_recipe([f"adapter={name}"]).adapter.options, **KINDS[name], **knobs}
    adapter = registry.load("adapter", name).build(base, seed=0, **given)
    generator = torch.Generator().manual_seed(1)
    for _, parameter in adapter.named_parameters():  # or what starts at zero would hide everything
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapter


def question(layer: Any) -> torch.Tensor:
    """Three samples for a layer, of a text's form or a picture's."""
    inner, generator = layer.get_base_layer(), torch.Generator().manual_seed(2)
    sides = (5, 5) if isinstance(inner, torch.nn.Conv2d) else ()
    width = inner.weight.shape[1]
    shape = (3, width, *sides) if sides else (3, 7, width)
    return torch.randn(shape, generator=generator)


@pytest.mark.parametrize("name", ["lora", "locon"])
def test_ranks_are_dropped_sample_by_sample_and_the_others_scaled_up_as_sd_scripts_has_it(
    base: Base, name: str
) -> None:
    adapter, share = built(base, name, module_dropout=0.0), 0.3
    kinds = set()
    with torch.no_grad():
        for layer in adapter.layers.values():
            x, inner = question(layer), layer.get_base_layer()
            layer.train()
            torch.manual_seed(5)
            dropped = layer(x)
            layer.eval()
            down, up = layer.lora_A[adapter.name], layer.lora_B[adapter.name]
            lx = down(x)
            is_conv = isinstance(inner, torch.nn.Conv2d)
            kinds.add((type(inner).__name__, lx.shape[1] if is_conv else lx.shape[-1]))
            torch.manual_seed(5)
            mask = torch.rand((lx.size(0), up.weight.shape[1])) > share
            mask = mask[:, :, None, None] if is_conv else mask[:, None]
            expected = inner(x) + up(lx * mask) * layer.scaling[adapter.name] * (1.0 / (1.0 - share))
            torch.testing.assert_close(dropped, expected, rtol=1e-5, atol=1e-6)
            assert not torch.allclose(dropped, layer(x), atol=1e-6), "it acts in training alone"
    assert len(kinds) >= 2
    adapter.remove()


@pytest.mark.parametrize("name", KINDS)
def test_a_layer_that_is_left_out_is_the_bases_and_gets_no_gradient(base: Base, name: str) -> None:
    adapter = built(base, name, **{"module_dropout": 0.3, **({} if name == "loha" else {"rank_dropout": 0.0})})
    outs, by_module = [], adapter.by_module()
    for path, layer in adapter.layers.items():
        layer.train()
        own = list(by_module[path].values())
        x = question(layer)
        for seed in range(6):
            torch.manual_seed(seed)
            is_out = bool(torch.rand(1) < 0.3)
            for each in own:
                each.grad = None
            torch.manual_seed(seed)
            found = layer(x)
            assert torch.equal(found, layer.get_base_layer()(x)) == is_out
            if found.requires_grad:
                found.sum().backward()
            assert all((each.grad is None) == is_out for each in own)
            outs.append(is_out)
        layer.eval()
    assert 0.15 < sum(outs) / len(outs) < 0.45
    adapter.remove()


def test_a_lokrs_rows_are_dropped_as_lycoris_has_it(base: Base) -> None:
    adapter = built(base, "lokr", module_dropout=0.0)
    with torch.no_grad():
        for layer in adapter.layers.values():
            inner, x, delta = layer.get_base_layer(), question(layer), adapter.delta(layer)
            layer.train()
            torch.manual_seed(5)
            found = layer(x)
            torch.manual_seed(5)
            torch.rand(1)  # whether the layer is left out
            rows = (torch.rand(len(delta)) > 0.3).float()
            change = delta * rows.view(-1, *[1] * (delta.ndim - 1))
            is_conv = isinstance(inner, torch.nn.Conv2d)
            expected = inner(x) + (F.conv2d(x, change) if is_conv else F.linear(x, change))
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            assert torch.equal(adapter.delta(layer), delta), "what is looked at is whole"
            layer.eval()
    adapter.remove()


@pytest.mark.parametrize("name", KINDS)
def test_resumed_equals_uninterrupted_and_what_is_looked_at_is_whole(
    new_slot: Any, base: Base, tmp_path: Any, name: str
) -> None:
    adapter = Component(name=name, options=KINDS[name])
    straight = new_slot(adapter=adapter)
    train(straight, base, 6)
    wanted = straight.adapter.state_dict()
    norms = ScaleNorm(max_norm=1e6).after_step(straight.adapter)
    assert norms == ScaleNorm(max_norm=1e6).after_step(straight.adapter)
    straight.close()
    whole = {key: value for key, value in KINDS[name].items() if key not in DROPS}
    plain = new_slot(adapter=Component(name=name, options=whole))
    train(plain, base, 6)
    assert any(not torch.equal(tensor, wanted[key]) for key, tensor in plain.adapter.state_dict().items())
    plain.close()
    first = new_slot(adapter=adapter)
    train(first, base, 3)
    checkpoint.save(first, tmp_path / "checkpoints")
    first.close()
    torch.manual_seed(12345)
    second = new_slot(adapter=adapter)
    checkpoint.restore(second, tmp_path / "checkpoints")
    train(second, base, 3)
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in second.adapter.state_dict().items())


def test_beside_others_each_ends_as_alone(new_slot: Any, base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    base.unet.double()
    base.dtype = torch.float64
    one_size = TrainOptions(batch_size=2, max_grad_norm=0.01, device="cpu")
    recipes: list[dict[str, Any]] = [
        {"adapter": Component(name="lora", options=KINDS["lora"])},
        {"adapter": Component(name="lora", options={**KINDS["lora"], **dict.fromkeys(DROPS, 0.0)}), "seed": 1},
    ]

    def in_double(recipe: dict[str, Any]) -> Any:
        slot = new_slot(train=one_size, **recipe)
        for parameter in slot.parameters():
            parameter.data = parameter.data.double()
        return slot

    alone = []
    for recipe in recipes:
        slot = in_double(recipe)
        train(slot, base, 3)
        alone.append(slot.adapter.state_dict())
        slot.close()
    slots = [in_double(recipe) for recipe in recipes]
    advance(slots, base, steps=3, on_step=lambda slot, metrics: None)
    for slot, reached in zip(slots, alone, strict=True):
        for key, tensor in slot.adapter.state_dict().items():
            assert (tensor - reached[key]).abs().max() <= 1e-12 * reached[key].abs().max(), key


@pytest.mark.parametrize(
    "optimizer", ["adamw", "prodigy", "lion", "adafactor", "came", "dadapt_adam", "schedule_free_adamw"]
)
def test_a_step_that_leaves_all_layers_out_is_one(new_slot: Any, base: Base, optimizer: str) -> None:
    options = {**KINDS["lora"], "targets": "attn", "module_dropout": 0.99, "rank_dropout": 0.0}
    slot = new_slot(adapter=Component(name="lora", options=options), optimizer=Component(name=optimizer))
    rows = train(slot, base, 5)
    assert min(row["train/grad_norm"] for row in rows) == 0.0 and slot.step == 5
    assert all(tensor.isfinite().all() for tensor in slot.adapter.state_dict().values())
    with slot.for_use():
        assert all(tensor.isfinite().all() for tensor in slot.adapter.state_dict().values())


def test_what_is_typed_is_checked_and_a_recipe_without_is_the_one_from_before() -> None:
    with pytest.raises(ConfigError, match=r"adapter.rank_dropout  must be in \[0, 1\), got 1"):
        compose_recipe(["adapter.rank_dropout=1"])
    with pytest.raises(ConfigError, match="unknown key for adapter `loha`"):
        compose_recipe(["adapter=loha", "adapter.rank_dropout=0.1"])
    recipe = compose_recipe([])
    before = {key: value for key, value in recipe.adapter.options.items() if key not in DROPS}
    older = dataclasses.replace(recipe, adapter=Component(name="lora", options=before))
    assert older.fingerprint() == recipe.fingerprint() and len(before) == len(recipe.adapter.options) - 2
    assert packing.share_key(recipe) == packing.share_key(older) is not None
    for knob in DROPS:
        dropping = compose_recipe([f"adapter.{knob}=0.1"])
        assert dropping.fingerprint() != recipe.fingerprint() and packing.share_key(dropping) is None
