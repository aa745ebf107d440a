"""What every base keeps to, over every YAML of conf/base/, on tiny random ones where it is one's own."""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_flow import PIPELINES
from tiny_training import make_plan, make_recipe

from lorasweep.core.protocols import Base
from lorasweep.core.records import BaseOptions, Component, Frame
from lorasweep.trial import lora_weight
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.train import checkpoint
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import Slot, make_slot

CONF = Path(__file__).parents[2] / "conf" / "base"
NAMES = {yaml.safe_load(file.read_text(encoding="utf-8"))["name"] for file in CONF.glob("*.yaml")}
NAMES -= {"auto"}  # which picks another
# Fixtures; what is not here comes with the package.
TINY = {"stable_diffusion": "tiny_sd", "sdxl": "tiny_sdxl", "dollhouse_flow": "tiny_flux"}
FLOW = set(PIPELINES)
SIZE_PX = (48, 32)
CAPTIONS = ["zkw, red hair", "1girl", ""]


@pytest.fixture(scope="module", params=sorted(NAMES))
def base(request: pytest.FixtureRequest) -> Base:
    name = request.param
    path = str(request.getfixturevalue(TINY[name])) if name in TINY else None
    if name in FLOW:
        path = str(request.getfixturevalue("tiny_flow")(name))
    options = BaseOptions(name=name, path=path, resolution=64, bucket_step=8)
    module = importlib.import_module(f"lorasweep.components.bases.{name}")
    assert module.problems(options) == []
    loaded: Base = module.load(options, device="cpu", precision="fp32")
    assert loaded.fingerprint == module.fingerprint(options)
    held: Any = loaded
    told = module.footprint(options)
    assert (told.denoiser, told.vae) == (numbers(held.denoiser), numbers(held.vae))
    assert sorted(told.texts) == sorted(map(numbers, held.text_encoders))
    return loaded


def numbers(module: torch.nn.Module) -> int:
    return sum(tensor.numel() for name, tensor in module.named_parameters() if name.endswith("weight"))


@torch.no_grad()
def test_pictures_latents_and_answers_have_the_shapes_that_are_said(base: Base) -> None:
    shape = (3, *base.latent.of(*SIZE_PX))
    pixels = torch.rand(3, 3, SIZE_PX[1], SIZE_PX[0]) * 2 - 1
    mean, std = base.encode_images(pixels)
    assert mean.shape == std.shape == shape and mean.dtype == std.dtype == torch.float32
    decoded = base.decode_latents(mean)
    assert decoded.shape == pixels.shape and decoded.dtype == torch.float32
    t = base.path.uniform(3, torch.Generator().manual_seed(0))
    text, frames = base.encode_captions(CAPTIONS), [Frame.whole(*SIZE_PX)] * 3
    answer = base.predict(mean, t, text, frames)
    assert answer.shape == base.path.target(mean, mean, t).shape == shape and answer.dtype == torch.float32
    assert base.features(mean, t, text, frames).shape[0] == 3
    json.dumps(base.reproduction("ddim", 4))


@torch.no_grad()
def test_right_answers_lead_back_to_image_and_noise(base: Base) -> None:
    clean, noise = torch.randn(2, 5, *base.latent.of(*SIZE_PX), generator=torch.Generator().manual_seed(0))
    t = base.path.t_of(torch.tensor([0.0, 0.2, 0.5, 0.8, 0.95]))
    noisy, target = base.path.add(clean, noise, t), base.path.target(clean, noise, t)
    for row, (alpha, sigma) in enumerate(zip(*base.path.scales(t), strict=True)):
        found = base.path.split(noisy[row], target[row], float(alpha), float(sigma))
        assert torch.allclose(found[0], clean[row], atol=1e-3) and torch.allclose(found[1], noise[row], atol=1e-3)
    assert torch.allclose(base.path.snr(t), (base.path.scales(t)[0] / base.path.scales(t)[1]) ** 2, rtol=1e-3)
    assert base.path.snr(base.path.as_noisy_as(500)) == pytest.approx(0.3838, rel=0.02)  # Stable Diffusion's


@torch.no_grad()
def test_captions_go_together_whatever_their_length(base: Base) -> None:
    long = "red hair, blue dress, " * 40
    one_by_one = [{name: row[0] for name, row in base.encode_captions([text]).items()} for text in (long, "zkw", "")]
    together, stacked = base.encode_captions([long, "zkw"]), base.stack(one_by_one[:2], one_by_one[2])
    assert base.chunks(long) >= base.chunks("zkw") == base.chunks("") == 1
    assert all(torch.allclose(stacked[name], together[name], atol=1e-5) for name in together)


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
