"""Sampling on a tiny random Stable Diffusion: repeatable, traceless, and drawable by diffusers alone."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import shipped
import torch
from PIL import Image
from tiny_sdxl import change_json

from lorasweep.components.adapters import lora
from lorasweep.components.bases import stable_diffusion
from lorasweep.core.records import BaseOptions, SampleOptions
from lorasweep.plan import sample_requests
from lorasweep.trial import sample

PROMPTS = ("zkw, 1girl, red dress", "1girl, blue hair, hat")


@pytest.fixture(scope="module")
def base(tiny_sd: Path) -> Any:
    return load(BaseOptions(name="stable_diffusion", path=str(tiny_sd), resolution=32, bucket_step=8))


def load(options: BaseOptions) -> Any:
    return stable_diffusion.load(options, device="cpu", precision="fp32")


def options(**changes: Any) -> SampleOptions:
    return SampleOptions(**({"steps": 3, "guidance": 3.0} | changes))


def wanted(*, seeds: Any = (0, 1), weights: Any = (0.7,)) -> list[sample_requests.ImageRequest]:
    recipe = SimpleNamespace(
        base=SimpleNamespace(negative_prompt="green hat"),
        picture_px=(32, 24),
        sample=options(class_seeds=2),
    )
    plan = SimpleNamespace(prompts={"class": PROMPTS[1:], "in_distribution": PROMPTS[:1]})
    return sample_requests.requests(recipe, plan, weights=weights, seeds=seeds)  # type: ignore[arg-type]


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


def test_pictures_of_one_seed_share_the_first_row_without_their_prompts(
    base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, predict = [], base.predict
    monkeypatch.setattr(base, "predict", lambda noisy, *rest: (asked.append(len(noisy)), predict(noisy, *rest))[1])
    sample.draw(base, None, wanted(seeds=(0,)), options())
    sample.draw(base, None, wanted(), options())
    assert asked == [3, 4, 4, 8, 8, 8]


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


def redraw(tiny_sd: Path, folder: Path, place: int) -> tuple[Any, Any]:
    """Draw one entry of an index with diffusers and nothing of ours; returns the pipeline and the picture."""
    import diffusers

    index = json.loads((folder / "samples" / "index.json").read_text())
    how, entry = index["how"], index["images"][place]
    pipe = getattr(diffusers, how["pipeline"]).from_pretrained(tiny_sd)
    pipe.scheduler = getattr(diffusers, how["scheduler"]).from_config(how["scheduler_config"])
    pipe.set_progress_bar_config(disable=True)
    if entry["adapter"]:
        pipe.load_lora_weights(folder, weight_name=entry["adapter"], adapter_name="it")
        pipe.set_adapters(["it"], adapter_weights=[entry["weight"]])
    picture = pipe(
        entry["prompt"],
        negative_prompt=entry["negative_prompt"],
        width=entry["width"],
        height=entry["height"],
        num_inference_steps=entry["steps"],
        guidance_scale=entry["guidance"],
        clip_skip=how["clip_skip"],
        generator=torch.Generator("cpu").manual_seed(entry["seed"]),
    ).images[0]
    return pipe, picture


def distance(one: Image.Image, other: Image.Image) -> int:
    """Largest difference of a channel, in levels of 255."""
    return int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
def test_diffusers_alone_draws_the_base(base: Any, tiny_sd: Path, tmp_path: Path, sampler: str) -> None:
    chosen, requests = options(sampler=sampler), wanted(seeds=(5,))
    images = sample.draw(base, None, requests, chosen)
    sample.write(tmp_path / "samples", requests, images, base=base, options=chosen, adapter_file=None)
    pipe, again = redraw(tiny_sd, tmp_path, 1)
    assert again.size == images[1].size
    assert distance(again, images[1]) <= 1
    # the note about the noise is code: it gives the pipeline's own starting point
    entry = json.loads((tmp_path / "samples" / "index.json").read_text())["images"][1]
    generator = torch.Generator("cpu").manual_seed(entry["seed"])
    pipe.scheduler.set_timesteps(entry["steps"])
    start = pipe.prepare_latents(1, 4, entry["height"], entry["width"], torch.float32, "cpu", generator)
    assert torch.allclose(eval(entry["noise"], {"torch": torch}), start, rtol=1e-6)


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
def test_how_others_draw_a_base_is_not_how_it_was_drawn(tiny_sd: Path, tmp_path: Path, sampler: str) -> None:
    """Folders come with the scheduler that their maker liked best."""
    folder = Path(shutil.copytree(tiny_sd, tmp_path / "karras"))
    liked = {"timestep_spacing": "linspace", "use_karras_sigmas": True, "thresholding": True}
    change_json(folder / "scheduler" / "scheduler_config.json", **liked)
    base_options = BaseOptions(name="stable_diffusion", path=str(folder), resolution=32, bucket_step=8)
    base, chosen, requests = load(base_options), options(sampler=sampler), wanted(seeds=(5,))
    images = sample.draw(base, None, requests, chosen)
    sample.write(tmp_path / "samples", requests, images, base=base, options=chosen, adapter_file=None)
    assert distance(redraw(folder, tmp_path, 1)[1], images[1]) <= 1


@pytest.mark.parametrize("text_encoder", [False, True])
def test_diffusers_alone_draws_the_adapter(base: Any, tiny_sd: Path, tmp_path: Path, text_encoder: bool) -> None:
    adapter = shipped.build(lora, base, seed=0, dim=4, alpha=2.0, targets="full", text_encoder=text_encoder)
    generator = torch.Generator().manual_seed(1)
    adapter.load_state_dict(
        {k: v + 0.3 * torch.randn(v.shape, generator=generator) for k, v in adapter.state_dict().items()}
    )
    requests = wanted(seeds=(5,), weights=(0.0, 0.7))
    images = sample.draw(base, adapter, requests, options())
    adapter.save(tmp_path / "adapter.safetensors")
    adapter.remove()
    sample.write(
        tmp_path / "samples",
        requests,
        images,
        base=base,
        options=options(),
        adapter_file="adapter.safetensors",
    )
    assert distance(images[0], images[2]) > 10, "the adapter must act"
    assert distance(redraw(tiny_sd, tmp_path, 2)[1], images[2]) <= 1


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

    code = "import sys, lorasweep.trial.sample, lorasweep.results.sheet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
