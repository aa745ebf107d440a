"""SD 1.x and 2.x train as diffusers' `train_text_to_image_lora.py`: the same images and draws, step after step.

With the text encoder as `train_dreambooth_lora.py --train_text_encoder` has it, at a rate of its own.

The script's own lines over diffusers, PEFT and torch alone, from the files of the base and of the images on: its VAE,
its text encoder, its `add_adapter`, its AdamW, its clipping, its schedule. Ours are only the order of the images and
the numbers that are drawn; and of an epoch's last step, which may have fewer batches, the loss is their mean, where
accelerate divides by as many as a full step has.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.optimization import get_scheduler
from diffusers.training_utils import compute_snr
from peft import LoraConfig
from PIL import Image
from tiny_sd import make_tiny_sd
from tiny_training import make_plan, make_recipe

from lorasweep.components.bases import stable_diffusion
from lorasweep.core.records import Component, NoiseOptions, TrainOptions
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.train.loop import advance
from lorasweep.trial.train.slot import make_slot

STEPS = 8
OFFSET, MAX_NORM, RANK, ALPHA, LR, TEXT_LR = 0.1, 0.005, 4, 2.0, 1e-2, 3e-3
ADAMW = {"betas": (0.9, 0.999), "weight_decay": 1e-2, "eps": 1e-8}


@pytest.mark.parametrize(
    ("prediction_type", "gamma", "accumulation", "text_encoder"),
    [
        ("epsilon", None, 1, True),
        ("epsilon", 5.0, 3, False),
        ("v_prediction", None, 3, False),
        ("v_prediction", 5.0, 1, False),
    ],
)
def test_losses_gradients_and_weights_are_those_of_the_script(
    prediction_type: str, gamma: float | None, accumulation: int, text_encoder: bool, tmp_path: Path
) -> None:
    folder = make_tiny_sd(tmp_path / "base", prediction_type=prediction_type)
    recipe = make_recipe(
        folder,
        adapter=Component(
            name="lora", options={"dim": RANK, "alpha": ALPHA, "targets": "attn", "text_encoder": text_encoder}
        ),
        optimizer=Component(name="adamw", options={"lr": LR, "text_encoder_lr": TEXT_LR, **ADAMW}),
        scheduler=Component(name="cosine_with_restarts", options={"num_cycles": 2, "warmup": 2}),
        noise=NoiseOptions(min_snr_gamma=gamma, offset=OFFSET),
        train=TrainOptions(
            max_steps=STEPS, batch_size=2, device="cpu", gradient_accumulation=accumulation, max_grad_norm=MAX_NORM
        ),
    )
    plan = dataclasses.replace(make_plan(recipe, tmp_path / "images", images=8), steps=STEPS)
    base: Any = stable_diffusion.load(recipe.base, device="cpu", precision="fp32")
    store = Store(tmp_path / "cache")
    slot = make_slot(base, recipe, plan, latents=LatentCache(base, store), texts=TextCache(base, store))
    script = Script(folder, slot.adapter.state_dict(), gamma)
    ours: list[torch.Tensor] = []
    slot.optimizer.register_step_pre_hook(lambda *_: ours.extend(p.grad.clone() for p in slot.parameters()))
    rows: list[dict[str, float]] = []
    sizes = set()
    for _ in range(STEPS):
        batches = slot.batches()
        sizes.add(tuple(map(len, batches)))
        draws = [torch.Generator().manual_seed(slot.seed_of("noise", n)) for n in range(len(batches))]
        loss, norm, lr, gradients = script.step(batches, draws)
        ours.clear()
        advance([slot], base, steps=1, on_step=lambda slot, metrics: rows.append(metrics))
        assert rows[-1]["train/loss"] == pytest.approx(loss, rel=1e-5)
        assert rows[-1]["train/grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert rows[-1]["train/lr/unet"] == pytest.approx(lr, rel=1e-6)
        assert norm > MAX_NORM, "gradients are clipped"
        for (name, _), mine in zip(slot.adapter.named_parameters(), ours, strict=True):
            torch.testing.assert_close(mine, gradients[name], rtol=1e-3, atol=1e-6, msg=name)
    assert accumulation == 1 or len({len(each) for each in sizes}) > 1, "the last step of an epoch has fewer batches"
    learned = script.weights()
    for part, lr in {"unet": LR, **({"text_encoder": TEXT_LR} if text_encoder else {})}.items():
        own = [tensor for name, tensor in learned.items() if name.startswith(f"{part}.") and "lora_B" in name]
        assert max(float(tensor.abs().max()) for tensor in own) > lr
    for name, tensor in slot.adapter.state_dict().items():
        torch.testing.assert_close(tensor, learned[name], rtol=1e-3, atol=LR / 100, msg=name)


class Script:
    """What the script holds; `step` is its loop's body, up to `optimizer.zero_grad()`."""

    def __init__(self, folder: Path, start: dict[str, torch.Tensor], gamma: float | None) -> None:
        pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, local_files_only=True)
        self.vae, self.text_encoder, self.tokenizer = pipeline.vae, pipeline.text_encoder, pipeline.tokenizer
        self.unet, self.gamma = pipeline.unet, gamma
        for part in (self.vae, self.text_encoder, self.unet):
            part.requires_grad_(False)
        self.noise_scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
        parts = {"unet": (self.unet, ["to_k", "to_q", "to_v", "to_out.0"])}
        if any(name.startswith("text_encoder.") for name in start):
            parts["text_encoder"] = (self.text_encoder, ["q_proj", "k_proj", "v_proj", "out_proj"])
        self.trained = {}
        for part, (model, names) in parts.items():
            model.add_adapter(
                LoraConfig(r=RANK, lora_alpha=ALPHA, init_lora_weights="gaussian", target_modules=names)  # type: ignore[arg-type]
            )
            for name, tensor in model.named_parameters():
                if tensor.requires_grad:
                    self.trained[f"{part}.{name.replace('.default', '')}"] = tensor
            model.train()
        assert self.trained.keys() == start.keys()
        for name, tensor in self.trained.items():
            tensor.data.copy_(start[name])
        groups = [
            {"params": [tensor for name, tensor in self.trained.items() if name.startswith(f"{part}.")], "lr": lr}
            for part, lr in {"unet": LR, "text_encoder": TEXT_LR}.items()
            if part in parts
        ]
        self.optimizer = torch.optim.AdamW(groups, **ADAMW)  # type: ignore[arg-type]
        self.lr_scheduler = get_scheduler(
            "cosine_with_restarts", self.optimizer, num_warmup_steps=2, num_training_steps=STEPS, num_cycles=2
        )

    def step(self, batches: Any, draws: list[torch.Generator]) -> tuple[float, float, float, dict[str, torch.Tensor]]:
        """One update; its loss, the norm of its gradients, its learning rate, and the gradients as clipped."""
        total = 0.0
        for batch, generator in zip(batches, draws, strict=True):
            loss = self.loss(batch, generator) / len(batches)
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(list(self.trained.values()), MAX_NORM)
        gradients = {name: tensor.grad.clone() for name, tensor in self.trained.items() if tensor.grad is not None}
        lr = self.lr_scheduler.get_last_lr()[0]
        self.optimizer.step()
        self.lr_scheduler.step()
        self.optimizer.zero_grad()
        return total, norm.item(), lr, gradients

    def loss(self, batch: Any, generator: torch.Generator) -> torch.Tensor:
        """From the files of a batch on."""
        pictures = [np.asarray(Image.open(image.file).convert("RGB")) for image in batch]
        pixel_values = (torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255.0 - 0.5) / 0.5
        input_ids = self.tokenizer(
            [image.caption for image in batch],
            max_length=self.tokenizer.model_max_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).input_ids
        posterior = self.vae.encode(pixel_values).latent_dist
        latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
        latents = latents * self.vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=generator)
        noise += OFFSET * torch.randn((latents.shape[0], latents.shape[1], 1, 1), generator=generator)
        timesteps = torch.randint(
            0, self.noise_scheduler.config.num_train_timesteps, (len(batch),), generator=generator
        ).long()
        noisy_latents = self.noise_scheduler.add_noise(latents, noise, timesteps)
        encoder_hidden_states = self.text_encoder(input_ids, return_dict=False)[0]
        is_epsilon = self.noise_scheduler.config.prediction_type == "epsilon"
        target = noise if is_epsilon else self.noise_scheduler.get_velocity(latents, noise, timesteps)
        model_pred = self.unet(noisy_latents, timesteps, encoder_hidden_states, return_dict=False)[0]
        if self.gamma is None:
            return torch.nn.functional.mse_loss(model_pred.float(), target.float(), reduction="mean")
        snr = compute_snr(self.noise_scheduler, timesteps)
        mse_loss_weights = torch.stack([snr, self.gamma * torch.ones_like(timesteps)], dim=1).min(dim=1)[0]
        mse_loss_weights = mse_loss_weights / (snr if is_epsilon else snr + 1)
        loss = torch.nn.functional.mse_loss(model_pred.float(), target.float(), reduction="none")
        return (loss.mean(dim=list(range(1, len(loss.shape)))) * mse_loss_weights).mean()

    def weights(self) -> dict[str, torch.Tensor]:
        """The adapter as it is, by our names."""
        return {name: tensor.detach() for name, tensor in self.trained.items()}
