"""Sampling on a tiny random Stable Diffusion: repeatable, traceless, and drawable by diffusers alone."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lorasweep import sample
from lorasweep.bases import stable_diffusion
from lorasweep.records import BaseOptions, SampleOptions

PROMPTS = ("zkw, 1girl, red dress", "1girl, blue hair, hat")


@pytest.fixture(scope="module")
def base(tiny_sd: Path) -> Any:
    options = BaseOptions(name="stable_diffusion", path=str(tiny_sd), resolution=32, bucket_step=8)
    return stable_diffusion.load(options, device="cpu", precision="fp32")


def options(**changes: Any) -> SampleOptions:
    return SampleOptions(**({"steps": 3, "guidance": 3.0} | changes))


def wanted(*, seeds: Any = (0, 1), weights: Any = (0.7,)) -> list[sample.ImageRequest]:
    recipe = SimpleNamespace(
        base=SimpleNamespace(negative_prompt="green hat", resolution=32),
        sample=SimpleNamespace(width=None, height=24),
    )
    plan = SimpleNamespace(prompts={"class": PROMPTS[1:], "in_distribution": PROMPTS[:1]})
    return sample.requests(recipe, plan, weights=weights, seeds=seeds)  # type: ignore[arg-type]


class Louder:
    """A fake adapter whose weight scales the UNet's last bias; enough to see weights come and go."""

    def __init__(self, base: Any) -> None:
        self._bias = base.unet.conv_out.bias
        self._plain = self._bias.detach().clone()
        self.weights: list[float] = []
        self.set_weight(1.0)

    def set_weight(self, weight: float) -> None:
        self.weights.append(weight)
        self._bias.data = self._plain + weight

    def parameters(self) -> dict[str, list[torch.nn.Parameter]]:
        return {"unet": []}

    def remove(self) -> None:
        self._bias.data = self._plain


@pytest.fixture
def adapter(base: Any) -> Any:
    made = Louder(base)
    yield made
    made.remove()


def test_requests_follow_the_order_of_the_tiers_and_take_sizes_from_the_recipe() -> None:
    found = wanted(weights=(0.4, 0.7))
    assert [(r.weight, r.tier, r.seed) for r in found] == [
        (weight, tier, seed)
        for weight in (0.4, 0.7)
        for tier in ("in_distribution", "class")
        for seed in (0, 1)
    ]
    assert {(r.width_px, r.height_px) for r in found} == {(32, 24)}
    assert {r.negative_prompt for r in found} == {"green hat"}


def test_a_picture_depends_on_neither_its_neighbours_nor_the_global_generators(base: Any) -> None:
    requests = wanted()
    together = sample.draw(base, None, requests, options(batch_size=8))
    torch.manual_seed(99)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    alone = sample.draw(base, None, requests[::-1], options(batch_size=1))[::-1]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]
    arrays = [np.asarray(image, dtype=int) for image in together]
    assert np.abs(arrays[0] - arrays[1]).max() > 10, "different seeds must give different pictures"
    for one, other in zip(arrays, alone, strict=True):
        # at most a rounding step, from another batch's float order
        assert np.abs(one - np.asarray(other, dtype=int)).max() <= 1


def test_weights_act_and_are_put_back(base: Any, adapter: Any) -> None:
    base.unet.train()
    requests = wanted(weights=(0.0, 0.7), seeds=(0,))
    drawn = [np.asarray(image) for image in sample.draw(base, adapter, requests, options())]
    assert base.unet.training and base.unet.conv_in.training
    base.unet.eval()
    assert adapter.weights[-1] == 1.0 and {0.0, 0.7} <= set(adapter.weights)
    adapter.remove()
    plain = [np.asarray(image) for image in sample.draw(base, None, requests[:2], options())]
    assert np.array_equal(drawn[0], plain[0]), "weight 0 must be the base"
    assert not np.array_equal(drawn[2], plain[0]), "weight 0.7 must not be"


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
def test_diffusers_alone_can_draw_it(base: Any, tiny_sd: Path, tmp_path: Path, sampler: str) -> None:
    import diffusers

    chosen = options(sampler=sampler)
    requests = wanted(seeds=(5,))
    images = sample.draw(base, None, requests, chosen)
    sample.write(tmp_path, requests, images, base=base, options=chosen, adapter_file=None)

    index = json.loads((tmp_path / "index.json").read_text())
    how, entry = index["how"], index["images"][1]
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tiny_sd)
    pipe.scheduler = getattr(diffusers, how["scheduler"]).from_config(how["scheduler_config"])
    pipe.set_progress_bar_config(disable=True)
    again = pipe(
        entry["prompt"],
        negative_prompt=entry["negative_prompt"],
        width=entry["width"],
        height=entry["height"],
        num_inference_steps=entry["steps"],
        guidance_scale=entry["guidance"],
        generator=torch.Generator("cpu").manual_seed(entry["seed"]),
    ).images[0]
    assert again.size == images[1].size
    assert np.abs(np.asarray(again, dtype=int) - np.asarray(images[1], dtype=int)).max() <= 1
    # the note about the noise is code: it gives the pipeline's own starting point
    noise = eval(entry["noise"], {"torch": torch})
    generator = torch.Generator("cpu").manual_seed(entry["seed"])
    pipe.scheduler.set_timesteps(entry["steps"])
    start = pipe.prepare_latents(1, 4, entry["height"], entry["width"], torch.float32, "cpu", generator)
    assert torch.allclose(noise, start, rtol=1e-6)


def test_index_round_trip(base: Any, tmp_path: Path) -> None:
    requests = wanted(weights=(0.4, 0.7))
    images = sample.draw(base, None, requests, options())
    written = sample.write(
        tmp_path / "s", requests, images, base=base, options=options(), adapter_file="adapter.safetensors"
    )
    assert sample.read_index(tmp_path / "s") == written
    assert [one.request for one in written] == requests
    for one, image in zip(written, images, strict=True):
        assert np.array_equal(np.asarray(one.open()), np.asarray(image))
    entry = json.loads((tmp_path / "s" / "index.json").read_text())["images"][0]
    assert entry["file"] == "in_distribution_00_seed0_w0.4.png"
    assert {"prompt", "negative_prompt", "seed", "weight", "width", "height"} < set(entry)
    assert {"sampler", "steps", "guidance", "noise"} < set(entry)
    assert entry["adapter"] == "adapter.safetensors"


def test_two_sizes_of_one_request_cannot_share_a_file(base: Any, tmp_path: Path) -> None:
    import dataclasses

    request = wanted()[0]
    twice = [request, dataclasses.replace(request, width_px=24)]
    images = sample.draw(base, None, twice, options())
    assert [image.size for image in images] == [(32, 24), (24, 24)]
    with pytest.raises(ValueError, match="must differ"):
        sample.write(tmp_path, twice, images, base=base, options=options(), adapter_file=None)


def test_reading_an_index_needs_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, lorasweep.sample, lorasweep.sheet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
