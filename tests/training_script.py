"""The body of diffusers' `train_text_to_image_lora.py` and `train_text_to_image_lora_sdxl.py`, as an oracle.

The scripts' own lines over diffusers, PEFT and torch alone, from the files of the base and of the images on: their VAE,
their text encoders, PEFT's layers, their AdamW, their clipping, their schedule. Text encoders have rates of their
own, as in `train_dreambooth_lora.py --train_text_encoder`. Ours are only the order of images, where each is cut, and
the numbers that are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, DiffusionPipeline, StableDiffusionXLPipeline
from diffusers.optimization import get_scheduler
from diffusers.training_utils import compute_snr
from peft import LoraConfig, inject_adapter_in_model
from PIL import Image

from lorasweep.core.records import PlannedImage

STEPS = 8
OFFSET, MAX_NORM, RANK, ALPHA = 0.1, 0.001, 4, 2.0
ADAMW = {"betas": (0.9, 0.999), "weight_decay": 1e-2, "eps": 1e-8}
_TARGETS = {"unet": ["to_k", "to_q", "to_v", "to_out.0"]}
_TARGETS |= dict.fromkeys(("text_encoder", "text_encoder_2"), ["q_proj", "k_proj", "v_proj", "out_proj"])


class Script:
    """What a script holds; `step` is its loop's body, up to `optimizer.zero_grad()`."""

    def __init__(
        self, folder: Path, start: Mapping[str, torch.Tensor], rates: Mapping[str, float], gamma: float | None
    ) -> None:
        """Train the parts that have a rate, from the adapter that `start` is."""
        self.pipeline: Any = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
        self.gamma, self.is_xl = gamma, isinstance(self.pipeline, StableDiffusionXLPipeline)
        self.encoders = [self.pipeline.text_encoder, *([self.pipeline.text_encoder_2] if self.is_xl else [])]
        self.tokenizers = [self.pipeline.tokenizer, *([self.pipeline.tokenizer_2] if self.is_xl else [])]
        for part in (self.pipeline.vae, self.pipeline.unet, *self.encoders):
            part.requires_grad_(False)
        self.noise_scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
        self.trained = {}
        for part in rates:
            model = getattr(self.pipeline, part)
            inject_adapter_in_model(  # what `add_adapter` does, which in transformers checks PEFT's version
                LoraConfig(r=RANK, lora_alpha=ALPHA, init_lora_weights="gaussian", target_modules=_TARGETS[part]),  # type: ignore[arg-type]
                model,
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
            for part, lr in rates.items()
        ]
        self.optimizer = torch.optim.AdamW(groups, **ADAMW)  # type: ignore[arg-type]
        self.lr_scheduler = get_scheduler(
            "cosine_with_restarts", self.optimizer, num_warmup_steps=2, num_training_steps=STEPS, num_cycles=2
        )

    def step(
        self, batches: Sequence[Sequence[PlannedImage]], draws: Sequence[torch.Generator]
    ) -> tuple[float, float, float, dict[str, torch.Tensor]]:
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

    def loss(self, batch: Sequence[PlannedImage], generator: torch.Generator) -> torch.Tensor:
        """From the files of a batch on."""
        pictures = [np.asarray(self.cut(image)) for image in batch]
        pixel_values = (torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255.0 - 0.5) / 0.5
        posterior = self.pipeline.vae.encode(pixel_values).latent_dist
        latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator)
        latents = latents * self.pipeline.vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=generator)
        noise += OFFSET * torch.randn((latents.shape[0], latents.shape[1], 1, 1), generator=generator)
        timesteps = torch.randint(
            0, self.noise_scheduler.config.num_train_timesteps, (len(batch),), generator=generator
        ).long()
        noisy_latents = self.noise_scheduler.add_noise(latents, noise, timesteps)
        is_epsilon = self.noise_scheduler.config.prediction_type == "epsilon"
        target = noise if is_epsilon else self.noise_scheduler.get_velocity(latents, noise, timesteps)
        prompt_embeds, conditions = self.told(batch)
        model_pred = self.pipeline.unet(
            noisy_latents, timesteps, prompt_embeds, added_cond_kwargs=conditions, return_dict=False
        )[0]
        if self.gamma is None:
            return torch.nn.functional.mse_loss(model_pred.float(), target.float(), reduction="mean")
        snr = compute_snr(self.noise_scheduler, timesteps)
        mse_loss_weights = torch.stack([snr, self.gamma * torch.ones_like(timesteps)], dim=1).min(dim=1)[0]
        mse_loss_weights = mse_loss_weights / (snr if is_epsilon else snr + 1)
        loss = torch.nn.functional.mse_loss(model_pred.float(), target.float(), reduction="none")
        return (loss.mean(dim=list(range(1, len(loss.shape)))) * mse_loss_weights).mean()

    def cut(self, image: PlannedImage) -> Image.Image:
        """Resize and crop where the plan says."""
        left, top = image.crop_px
        box = (left, top, left + image.bucket.width_px, top + image.bucket.height_px)
        return Image.open(image.file).convert("RGB").resize(image.resize_px, Image.Resampling.LANCZOS).crop(box)

    def told(self, batch: Sequence[PlannedImage]) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None]:
        """What the UNet is told of a batch: captions, and in XL pooled text and where each picture comes from."""
        ids = [
            tokenizer(
                [image.caption for image in batch],
                max_length=tokenizer.model_max_length,
                padding="max_length",
                truncation=True,
                return_tensors="pt",
            ).input_ids
            for tokenizer in self.tokenizers
        ]
        if not self.is_xl:
            return self.encoders[0](ids[0], return_dict=False)[0], None
        prompt_embeds_list = []
        for text_encoder, text_input_ids in zip(self.encoders, ids, strict=True):
            prompt_embeds = text_encoder(text_input_ids, output_hidden_states=True, return_dict=False)
            pooled_prompt_embeds = prompt_embeds[0]  # of the final one, in the end
            prompt_embeds_list.append(prompt_embeds[-1][-2])
        sizes = [
            ((image.height_px, image.width_px), image.crop_px[::-1], (image.bucket.height_px, image.bucket.width_px))
            for image in batch
        ]
        add_time_ids = torch.cat([torch.tensor([[*original, *crop, *target]]) for original, crop, target in sizes])
        conditions = {"time_ids": add_time_ids.float(), "text_embeds": pooled_prompt_embeds}
        return torch.concat(prompt_embeds_list, dim=-1), conditions
