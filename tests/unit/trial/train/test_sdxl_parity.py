"""SDXL's losses against the arithmetic of diffusers' `train_text_to_image_lora_sdxl.py`, on the same draws."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.training_utils import compute_snr
from tiny_training import make_plan, make_recipe

from lorasweep.components.bases import sdxl
from lorasweep.core.records import BaseOptions, NoiseOptions, TrainOptions
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import make_slot

STEPS = 50


@pytest.mark.parametrize("kind", ["epsilon", "v and zero terminal SNR"])
def test_fifty_losses_are_those_of_the_script(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue("tiny_sdxl" if kind == "epsilon" else "tiny_sdxl_v")
    options = TrainOptions(max_steps=STEPS, batch_size=2, device="cpu")
    base_options = BaseOptions(name="sdxl", path=str(folder), resolution=32, bucket_step=8)
    noise = NoiseOptions(min_snr_gamma=5.0, offset=0.1)
    recipe = dataclasses.replace(make_recipe(folder, train=options, noise=noise), base=base_options)
    plan = make_plan(recipe, tmp_path / "images")
    cut = [dataclasses.replace(i, width_px=50, height_px=70, crop_px=(3, 5)) for i in plan.images]
    plan = dataclasses.replace(plan, images=tuple(cut), steps=STEPS)
    base: Any = sdxl.load(base_options, device="cpu", precision="fp32")
    store = Store(tmp_path / "cache")
    latents = LatentCache(base, store)
    slot = make_slot(base, recipe, plan, latents=latents, texts=TextCache(base, store))
    rows: list[dict[str, float]] = []
    try:
        for _ in range(STEPS):
            (batch,) = slot.batches()
            wanted = script_loss(base, latents, batch, torch.Generator().manual_seed(slot.seed_of("noise", 0)))
            advance([slot], base, steps=1, on_step=lambda slot, metrics: rows.append(metrics))
            assert rows[-1]["train/loss"] == pytest.approx(wanted, rel=1e-5)
    finally:
        slot.close()


@torch.no_grad()
def script_loss(base: Any, latents: Any, batch: Any, generator: torch.Generator) -> float:
    """What the script computes, from its own lines, with our draws in the place of its own."""
    pairs = [latents.mean_std(image) for image in batch]
    mean, std = (torch.stack(both) for both in zip(*pairs, strict=True))
    model_input = mean + std * torch.randn(mean.shape, generator=generator)
    noise = torch.randn(mean.shape, generator=generator)
    noise += 0.1 * torch.randn((len(batch), mean.shape[1], 1, 1), generator=generator)
    scheduler = base.noise_schedule
    timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (len(batch),), generator=generator)
    noisy = scheduler.add_noise(model_input, noise, timesteps)
    time_ids = torch.stack(
        [
            torch.tensor(
                [i.height_px, i.width_px, i.crop_px[1], i.crop_px[0], i.bucket.height_px, i.bucket.width_px],
                dtype=torch.float32,
            )
            for i in batch
        ]
    )
    embeds = []
    for tokenizer, name in zip(base.tokenizers, ("text_encoder", "text_encoder_2"), strict=True):
        ids = tokenizer(
            [image.caption for image in batch],
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        said = base.parts[name](ids, output_hidden_states=True, return_dict=False)
        pooled, hidden = said[0], said[-1][-2]
        embeds.append(hidden)
    predicted = base.unet(
        noisy,
        timesteps,
        torch.cat(embeds, dim=-1),
        added_cond_kwargs={"time_ids": time_ids, "text_embeds": pooled},
        return_dict=False,
    )[0]
    snr = compute_snr(scheduler, timesteps)
    weights = torch.stack([snr, 5.0 * torch.ones_like(timesteps)], dim=1).min(dim=1)[0]
    if scheduler.config.prediction_type == "epsilon":
        target, weights = noise, weights / snr
    else:
        target, weights = scheduler.get_velocity(model_input, noise, timesteps), weights / (snr + 1)
    loss = torch.nn.functional.mse_loss(predicted.float(), target.float(), reduction="none")
    return float((loss.mean(dim=list(range(1, loss.ndim))) * weights).mean())
