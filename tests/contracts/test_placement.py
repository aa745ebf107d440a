"""Bases, adapters and optimizers on a pretended GPU: no tensor, index or generator is on the wrong device.

Nor is anything in float64 there, which `mps` does not have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pretend_cuda import OnCuda, pretend_cuda
from tiny_flow import PIPELINES
from tiny_training import make_plan, make_recipe

from lorasweep.components.bases import stable_diffusion
from lorasweep.core import registry
from lorasweep.core.protocols import Base
from lorasweep.core.records import BaseOptions, Component, NoiseOptions, Plan, Recipe, SampleOptions, TrainOptions
from lorasweep.plan import sample_requests
from lorasweep.trial import sample
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.train import checkpoint
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import Slot, make_slot

Choice = tuple[str, dict[str, Any]]
NewSlot = Callable[..., Slot]


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    with pretend_cuda(float64=False):
        yield


@pytest.fixture(scope="module")
def base(tiny_sd: Path) -> Base:
    with pretend_cuda():
        return stable_diffusion.load(make_recipe(tiny_sd).base, device="cuda", precision="fp32")


@pytest.fixture
def plan(tiny_sd: Path, tmp_path: Path) -> Plan:
    """With an image whose loss counts half, and whose answer is the base's own."""
    plan = make_plan(make_recipe(tiny_sd), tmp_path / "images")
    first = dataclasses.replace(plan.images[0], target="base", loss_weight=0.5)
    return dataclasses.replace(plan, images=(first, *plan.images[1:]), prompts={"class": ("zkw",)})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def new_slot(base: Base, plan: Plan, tiny_sd: Path, store: Store) -> Iterator[NewSlot]:
    made: list[Slot] = []

    def make(**changes: Any) -> Slot:
        options: Any = {"batch_size": 4, "device": "cuda"}
        noise = NoiseOptions(offset=0.05, min_snr_gamma=5.0)
        recipe = make_recipe(tiny_sd, train=TrainOptions(**options), noise=noise, **changes)
        slot = make_slot(base, recipe, plan, latents=LatentCache(base, store), texts=TextCache(base, store))
        made.append(slot)
        return slot

    yield make
    for slot in made:
        slot.close()


def draw(base: Base, slot: Slot, recipe: Recipe, plan: Plan) -> int:
    requests = sample_requests.requests(recipe, plan, weights=(0.7,), seeds=(0,))
    return len(sample.draw(base, slot.adapter, requests, recipe.sample))


def train(slot: Slot, base: Base, steps: int) -> None:
    advance([slot], base, steps=steps, on_step=lambda slot, metrics: None)


def test_what_cuda_refuses_is_refused() -> None:
    there, here = torch.ones(2, device="cuda"), torch.ones(2)
    assert str(there.device) == "cuda:0" and (there * 2).sum().item() == 4
    with pytest.raises(RuntimeError, match="cuda:0 and cpu"):
        there + here
    with pytest.raises(TypeError, match="numpy"):
        there.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(2, device="cuda", generator=torch.Generator())


@pytest.mark.parametrize("name", [*PIPELINES, "dollhouse_flow", "sdxl"])
def test_bases(
    name: str, store: Store, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OnCuda, "has_float64", True)  # which diffusers' transformers use unless it is called mps
    own = {"dollhouse_flow": "tiny_flux", "sdxl": "tiny_sdxl"}
    path = request.getfixturevalue(own.get(name, "tiny_flow"))
    options = BaseOptions(name=name, path=str(path if name in own else path(name)), resolution=32, bucket_step=8)
    base = registry.load("base", name).load(options, device="cuda", precision="fp32")
    recipe = dataclasses.replace(make_recipe(Path(), sample=SampleOptions(steps=1)), base=options)
    plan = dataclasses.replace(make_plan(recipe, tmp_path / "images"), prompts={"class": ("zkw",)})
    slot = make_slot(base, recipe, plan, latents=LatentCache(base, store), texts=TextCache(base, store))
    before = slot.adapter.state_dict()
    train(slot, base, 2)
    assert any(not torch.equal(before[key], tensor) for key, tensor in slot.adapter.state_dict().items())
    assert draw(base, slot, recipe, plan) == 1


def test_adapters(adapter_choice: Choice, new_slot: NewSlot, base: Base, plan: Plan, tmp_path: Path) -> None:
    name, knobs = adapter_choice
    slot = new_slot(
        adapter=Component(name=name, options={**knobs, "text_encoder": True}),
        sample=SampleOptions(steps=1),
        regularization={} if name == "dora" else {"scale_norm": {}},
    )
    assert isinstance(base.unet.conv_in.weight, OnCuda)
    assert all(isinstance(parameter, OnCuda) for parameter in slot.parameters())
    before = slot.adapter.state_dict()
    train(slot, base, 2)
    after = slot.adapter.state_dict()
    assert not any(isinstance(tensor, OnCuda) for tensor in after.values())
    for part in ("unet.", "text_encoder."):
        assert any(not torch.equal(before[key], tensor) for key, tensor in after.items() if key.startswith(part))
    checkpoint.save(slot, tmp_path / "checkpoints")
    assert draw(base, slot, slot.recipe, plan) == 1


def test_optimizers(optimizer_choice: Choice, new_slot: NewSlot, base: Base, tmp_path: Path) -> None:
    if optimizer_choice[0] == "adamw8bit":
        pytest.skip("bitsandbytes speaks to the driver of a real GPU")
    optimizer = Component(name=optimizer_choice[0], options=optimizer_choice[1])
    slot = new_slot(optimizer=optimizer)
    train(slot, base, 1)
    checkpoint.save(slot, tmp_path / "checkpoints")
    train(slot, base, 1)
    expected = slot.adapter.state_dict()
    slot.close()
    again = new_slot(optimizer=optimizer)
    assert checkpoint.restore(again, tmp_path / "checkpoints") == 1
    train(again, base, 1)
    with again.for_use():
        assert all(isinstance(parameter, OnCuda) for parameter in again.parameters())
    assert all(torch.equal(expected[key], tensor) for key, tensor in again.adapter.state_dict().items())
