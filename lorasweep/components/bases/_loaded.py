"""A loaded Stable Diffusion 1.x or 2.x: frozen modules, and the four things others ask of them.

Implements `protocols.Base`. Knows nothing about files, adapters or training.

B batch, C latent channels (4), H W latent height and width, L tokens (77), D text width (768 for SD 1.x).
Pixels are (B, 3, H * f, W * f) with f the VAE's factor (8).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(kw_only=True, eq=False)
class StableDiffusionBase:
    """See `protocols.Base`; every module is in eval mode, on `device`, frozen, in `dtype`."""

    unet: Any
    text_encoder: Any
    tokenizer: Any
    vae: Any
    noise_schedule: Any
    clip_skip: int  # 1 = last hidden state
    fingerprint: str
    vae_fingerprint: str
    text_fingerprint: str
    device: torch.device
    dtype: torch.dtype

    def __post_init__(self) -> None:
        for module in (self.unet, self.text_encoder, self.vae):
            module.eval().requires_grad_(False).to(self.device)

    def with_clip_skip(self, clip_skip: int) -> StableDiffusionBase:
        """These very modules, with captions read from another layer of the text encoder."""
        other = copy.copy(self)  # making a new one would freeze an adapter that is in them
        other.clip_skip = clip_skip
        other.text_fingerprint = f"{self.text_fingerprint.removesuffix(f'-skip{self.clip_skip}')}-skip{clip_skip}"
        return other

    @torch.no_grad()
    def encode_images(self, pixels_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode pixels in [-1, 1] to the posterior's mean and std, times the VAE's scaling factor; fp32."""
        posterior = self.vae.encode(pixels_BCHW.to(self.device, self.dtype)).latent_dist
        scale = self.vae.config.scaling_factor
        return posterior.mean.float() * scale, posterior.std.float() * scale

    def encode_captions(self, captions: Sequence[str]) -> torch.Tensor:
        """Encode captions to (B, L, D), padded and cut to the tokenizer's length.

        `clip_skip` 1 takes the last hidden state, 2 the one before, always through the final layer norm.
        Gradients flow when the text encoder holds trainable weights and the caller has not switched them off.

        Source: kohya-ss/sd-scripts, library/train_util.py, get_hidden_states, which counts `clip_skip` alike.
        """
        tokens = self.tokenizer(
            list(captions),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        ids_BL = tokens.input_ids.to(self.device)
        # SD 1.x was trained attending to its padding; only configs that say so mask it.
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        mask_BL = tokens.attention_mask.to(self.device) if masked else None
        if self.clip_skip == 1:
            return self.text_encoder(ids_BL, attention_mask=mask_BL).last_hidden_state
        output = self.text_encoder(ids_BL, attention_mask=mask_BL, output_hidden_states=True)
        return self.text_encoder.final_layer_norm(output.hidden_states[-self.clip_skip])

    def pipeline(self, sampler: str) -> Any:
        """A StableDiffusionPipeline over these very modules, without safety checker or progress bar.

        Args:
            sampler: `ddim`, `euler` or `dpmpp_2m`; its noise schedule is the base's.
        """
        from diffusers import StableDiffusionPipeline

        pipeline: Any = StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=self._sampler(sampler),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _sampler(self, name: str) -> Any:
        import diffusers

        config = dict(self.noise_schedule.config)
        if config.get("rescale_betas_zero_snr") and config["prediction_type"] == "v_prediction":
            # Only so does drawing begin at the last timestep, which such a base was trained to begin from.
            # Source: Lin et al., "Common Diffusion Noise Schedules and Sample Steps Are Flawed" (2024), 3.3.
            config["timestep_spacing"] = "trailing"
        if name == "ddim":
            # Clipping predicted samples to [-1, 1] is for pixels; latents reach further.
            return diffusers.DDIMScheduler.from_config(
                config, clip_sample=False, set_alpha_to_one=False, steps_offset=1
            )
        if name == "euler":
            return diffusers.EulerDiscreteScheduler.from_config(config, steps_offset=1)
        if name == "dpmpp_2m":
            return diffusers.DPMSolverMultistepScheduler.from_config(
                config, algorithm_type="dpmsolver++", solver_order=2, steps_offset=1
            )
        raise ValueError(f"sampler must be ddim, euler or dpmpp_2m, got {name!r}")
