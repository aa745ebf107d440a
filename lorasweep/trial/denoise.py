"""From noise to latents: one loop for every base, noise path and sampler.

Takes a base, noise and texts, asks `base.predict`, gives latents. No generator: who starts from the same noise ends
at the same latents. diffusers' pipelines are what tests hold it against.

Letters: B pictures, C H W latent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lorasweep.core.protocols import Base, Text
from lorasweep.core.records import Frame

if TYPE_CHECKING:
    import torch


def denoise(
    base: Base,
    noise_BCHW: torch.Tensor,
    text: Text,
    negative: Text | None,
    frames: Sequence[Frame],
    *,
    sampler: str,
    steps: int,
    guidance: float,
    rescale: float | None = None,
) -> torch.Tensor:
    """Draw latents, with whatever adapter is in force; (B, C, H, W) fp32 on the base's device.

    Every sampler goes in straight lines from (image, noise) at one level to the next: DDIM (Song et al., 2021) and
    Euler (Karras et al., 2022) by what the answer says, DPM-Solver++ 2M (Lu et al., 2022) by what the last two answers
    say when they are continued half a step. They differ in the levels, which the noise path gives.

    Texts and frames have a row a picture; without `negative` there is no guidance. A base that embeds guidance is told
    it, and `negative` is left out. `rescale` is as in `guided`; None is what suits the noise path.
    """
    import torch

    if base.embeds_guidance:
        text, negative = {**text, "guidance": torch.full((len(frames),), guidance)}, None
    way = base.path.sampling(sampler, steps, (noise_BCHW.shape[-2], noise_BCHW.shape[-1]))
    rescale = base.path.rescale if rescale is None else rescale
    noisy_BCHW = noise_BCHW.to(base.device).float() * way.start
    last: tuple[torch.Tensor, float] | None = None  # image and log of alpha / sigma at the step before
    negative = None if negative is None else base.unprompted(negative)
    without = _asked_once(noisy_BCHW, negative, frames)
    for t, (alpha, sigma), (alpha_next, sigma_next) in way.steps:
        answer_BCHW = guided(base, noisy_BCHW, t, text, without, frames, guidance=guidance, rescale=rescale)
        without = negative
        image_BCHW, noise_BCHW = base.path.split(noisy_BCHW, answer_BCHW, alpha, sigma)
        if sampler == "dpmpp_2m":
            here, said = math.log(alpha / sigma), image_BCHW
            if last is not None and sigma_next > 0:
                before, there = last[1], math.log(alpha_next / sigma_next)
                image_BCHW = said + (said - last[0]) * ((there - here) / (here - before) / 2)
                noise_BCHW = (noisy_BCHW - alpha * image_BCHW) / sigma
            last = (said, here)
        noisy_BCHW = alpha_next * image_BCHW + sigma_next * noise_BCHW
    return noisy_BCHW


def guided(
    base: Base,
    noisy_BCHW: torch.Tensor,
    t: torch.Tensor,
    text: Text,
    negative: Text | None,
    frames: Sequence[Frame],
    *,
    guidance: float,
    rescale: float,
) -> torch.Tensor:
    """Ask at one level of noise with and without the prompt, and go on from the latter past the former; (B, C, H, W).

    `negative` has a row a picture, or one for all where they are the same; without it only the prompt is asked.
    Guidance 1 is the answer with the prompt; `rescale`, in [0, 1], puts the answer's standard deviation back to that
    one's.

    Source: Ho & Salimans, "Classifier-Free Diffusion Guidance" (2022); Lin et al., "Common Diffusion Noise Schedules
    and Sample Steps Are Flawed" (2024), section 3.4, for `rescale`.
    """
    import torch

    if negative is None:
        return base.predict(noisy_BCHW, t.expand(len(noisy_BCHW)), text, frames)
    count = len(next(iter(negative.values())))
    both = {name: torch.cat([negative[name], text[name]]) for name in text}
    both_BCHW = torch.cat([noisy_BCHW[:count], noisy_BCHW])
    said_BCHW = base.predict(both_BCHW, t.expand(len(both_BCHW)), both, [*frames[:count], *frames])
    with_prompt = said_BCHW[count:]
    answer_BCHW = base.guide(said_BCHW[:count].expand_as(with_prompt), with_prompt, guidance)
    if rescale > 0:
        dims = (1, 2, 3)
        matched = answer_BCHW * (with_prompt.std(dims, keepdim=True) / answer_BCHW.std(dims, keepdim=True))
        answer_BCHW = rescale * matched + (1 - rescale) * answer_BCHW
    return answer_BCHW


def _asked_once(noisy_BCHW: torch.Tensor, negative: Text | None, frames: Sequence[Frame]) -> Text | None:
    """Return one row of `negative` where all pictures ask the same without their prompts, at one seed's first step."""
    if negative is None or len(set(frames)) > 1:
        return negative
    same = all(bool((rows == rows[:1]).all()) for rows in (noisy_BCHW, *negative.values()))
    return {name: rows[:1] for name, rows in negative.items()} if same else negative
