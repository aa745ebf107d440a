"""The one sampling loop against diffusers' pipelines: the same noise gives the same latents."""

from __future__ import annotations

import typing
from typing import Any

import pytest
import torch
from oracle import pipeline_of
from tiny_sd import make_tiny_sd, zero_snr
from tiny_sdxl import make_tiny_sdxl

from lorasweep.components.bases import sdxl, stable_diffusion
from lorasweep.core.records import BaseOptions, Frame, SampleOptions
from lorasweep.trial.denoise import denoise

PROMPTS, NEGATIVES = ["zkw, red hair", "1girl, hat"], ["", "green hat"]


@pytest.fixture(scope="module", params=["sd epsilon", "sd v", "sd v and zero SNR", "xl epsilon", "xl v and zero SNR"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, kind = tmp_path_factory.mktemp("base") / "it", stable_diffusion
    if request.param.startswith("xl"):
        kind = sdxl
        make_tiny_sdxl(folder, v_and_zero_snr="zero" in request.param)
    else:
        make_tiny_sd(folder, prediction_type="epsilon" if "epsilon" in request.param else "v_prediction")
        if "zero" in request.param:
            zero_snr(folder)
    options = BaseOptions(name="any", path=str(folder), resolution=32, bucket_step=8)
    return kind.load(options, device="cpu", precision="fp32")


@pytest.mark.parametrize("steps", [7, 8])  # of 1000, with and without a rest
@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
def test_latents_are_those_of_the_pipeline(base: Any, sampler: str, steps: int) -> None:
    found, wanted = drawn(base, sampler, steps), oracle(base, sampler, steps)
    assert wanted.abs().max() > 0.1 and (found - wanted).abs().max() < 1e-4 * max(1.0, wanted.abs().max())


@pytest.mark.parametrize("rescale", [0.0, 0.4])
def test_guided_answers_are_rescaled_as_a_recipe_says_whatever_suits_the_base(base: Any, rescale: float) -> None:
    found, wanted = drawn(base, "ddim", 7, rescale=rescale), oracle(base, "ddim", 7, rescale=rescale)
    assert (found - wanted).abs().max() < 1e-4 * max(1.0, wanted.abs().max())
    if rescale != base.path.rescale:
        assert (found - drawn(base, "ddim", 7)).abs().max() > 0.01


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
def test_the_most_steps_that_a_recipe_may_have_are_levels_of_their_own(base: Any, sampler: str) -> None:
    """DPM-Solver++ divides by how far two are apart."""
    (field,) = typing.get_type_hints(SampleOptions, include_extras=True)["steps"].__metadata__
    most = field.metadata[-1].le
    t = [int(t) for t, _, _ in base.path.sampling(sampler, most, (10, 6)).steps]
    assert len(set(t)) == most == len(t) and t == sorted(t, reverse=True)


def drawn(base: Any, sampler: str, steps: int, *, rescale: float | None = None) -> torch.Tensor:
    frames, how = [Frame.whole(40, 24)] * 2, {"sampler": sampler, "steps": steps, "guidance": 5.0, "rescale": rescale}
    with torch.no_grad():
        text, negative = base.encode_captions(PROMPTS), base.encode_captions(NEGATIVES)
        return denoise(base, noise(base), text, negative, frames, **how)


def noise(base: Any) -> torch.Tensor:
    shape = base.latent.of(40, 24)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)])


def oracle(base: Any, sampler: str, steps: int, *, rescale: float | None = None) -> torch.Tensor:
    pipeline = pipeline_of(base, sampler, steps=steps)
    latents: torch.Tensor = pipeline(
        prompt=PROMPTS,
        negative_prompt=NEGATIVES,
        width=40,
        height=24,
        num_inference_steps=steps,
        guidance_scale=5.0,
        guidance_rescale=base.path.rescale if rescale is None else rescale,
        generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)],
        output_type="latent",
    ).images
    return latents
