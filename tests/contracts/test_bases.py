"""What every base keeps to, over every YAML of conf/base/, on tiny random ones where it is one's own."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_flow import PIPELINES
from tiny_training import make_plan, make_recipe

from lorasweep.core.protocols import Base
from lorasweep.core.records import BaseOptions, Component, Frame
from lorasweep.testing.bases import *  # noqa: F403
from lorasweep.testing.bases import CAPTIONS, SIZE_PX
from lorasweep.trial import lora_weight
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.train import checkpoint
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import Slot, make_slot

# Fixtures; what is not here comes with the package.
TINY = {"stable_diffusion": "tiny_sd", "sdxl": "tiny_sdxl", "dollhouse_flow": "tiny_flux"}
FLOW = set(PIPELINES)


@pytest.fixture
def options(base_choice: tuple[str, dict[str, Any]], request: pytest.FixtureRequest) -> BaseOptions:
    name = base_choice[0]
    path = str(request.getfixturevalue(TINY[name])) if name in TINY else None
    if name in FLOW:
        path = str(request.getfixturevalue("tiny_flow")(name))
    return BaseOptions(name=name, path=path, resolution=64, bucket_step=8)


def test_its_parts_are_as_large_as_is_said_without_torch(options: BaseOptions, base: Any) -> None:
    told = importlib.import_module(f"lorasweep.components.bases.{options.name}").footprint(options)
    assert (told.denoiser, told.vae) == (numbers(base.denoiser), numbers(base.vae))
    assert sorted(told.texts) == sorted(map(numbers, base.text_encoders))


def numbers(module: torch.nn.Module) -> int:
    return sum(tensor.numel() for name, tensor in module.named_parameters() if name.endswith("weight"))


@pytest.fixture(scope="module")
def loaded(request: pytest.FixtureRequest) -> Callable[[str], Base]:
    """Bases by name, each loaded once."""

    @functools.cache
    def load(name: str) -> Base:
        options = BaseOptions(name=name, path=str(request.getfixturevalue(TINY[name])), resolution=64, bucket_step=8)
        found: Base = importlib.import_module(f"lorasweep.components.bases.{name}").load(
            options, device="cpu", precision="fp32"
        )
        return found

    return load


# The UNet with the most parts, and a transformer; adapters on the others are in the suites of adapters.
@pytest.mark.parametrize(("name_of_base", "optimizer"), [("sdxl", "prodigy"), ("dollhouse_flow", "adamw")])
def test_every_adapter_trains_resumes_and_leaves_the_base_as_it_was(
    loaded: Callable[[str], Base],
    adapter_choice: tuple[str, dict[str, Any]],
    name_of_base: str,
    optimizer: str,
    tiny_sd: Path,
    tmp_path: Path,
) -> None:
    name, knobs = adapter_choice
    recipe = make_recipe(
        tiny_sd,
        adapter=Component(name=name, options={**knobs, "text_encoder": True}),
        optimizer=Component(name=optimizer),
        scheduler=Component(name="constant"),
    )
    base = loaded(name_of_base)
    plan, store = make_plan(recipe, tmp_path / "images"), Store(tmp_path / "cache")
    latents, texts = LatentCache(base, store), TextCache(base, store)

    def new() -> Slot:
        return make_slot(base, recipe, plan, latents=latents, texts=texts)

    def look() -> torch.Tensor:
        shape = (2, *base.latent.of(*SIZE_PX))
        noisy = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        text = base.encode_captions(CAPTIONS[:2])
        t = base.path.as_noisy_as(600).expand(2)
        return base.predict(noisy, t, text, [Frame.whole(*SIZE_PX)] * 2)

    with torch.no_grad():
        before = look()
    slot = new()
    try:
        assert slot.trains_text and set(slot.adapter.parameters()) == set(base.parts)
        first = slot.adapter.state_dict()
        advance([slot], base, steps=2, on_step=lambda slot, metrics: None)
        checkpoint.save(slot, tmp_path / "checkpoints")
        advance([slot], base, steps=1, on_step=lambda slot, metrics: None)
        wanted = slot.adapter.state_dict()
        for part in base.parts:
            moved = [key for key in wanted if key.startswith(f"{part}.") and not torch.equal(first[key], wanted[key])]
            assert moved, f"{part} was not trained"
        with lora_weight.lora_weight(base, slot.adapter, 0.0):
            assert torch.equal(look(), before)
        slot.adapter.save(tmp_path / "adapter.safetensors")
    finally:
        slot.close()
    again = new()
    try:
        assert checkpoint.restore(again, tmp_path / "checkpoints") == 2
        advance([again], base, steps=1, on_step=lambda slot, metrics: None)
        found = again.adapter.state_dict()
        assert all(torch.equal(tensor, found[key]) for key, tensor in wanted.items())
        again.adapter.load(tmp_path / "adapter.safetensors")
    finally:
        again.close()
    with torch.no_grad():
        assert torch.equal(look(), before)
