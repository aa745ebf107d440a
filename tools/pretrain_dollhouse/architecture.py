"""The shapes of the models of the dollhouse's two pipelines. Builders only; knows nothing about training.

Proportions follow Stable Diffusion 1.x at 1/8: the VAE shrinks by 4 and the UNet by 2 more, so sizes are
multiples of 8 px as SD's are of 64. Text reaches the UNet by cross-attention at both levels and, pooled, by
its time embedding: without the pooled path colours land on the wrong part.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
    from transformers import CLIPTextModel

TEXT_WIDTH: Final[int] = 128
TEXT_TOKENS: Final[int] = 77
LATENT_CHANNELS: Final[int] = 4
VAE_FACTOR: Final[int] = 4
FLOW_TEXT_TOKENS: Final[int] = 48  # of the second base; its 64 px picture is 64 tokens
FLOW_SHIFT: Final[float] = 2.0


def build_vae() -> AutoencoderKL:
    """Return an untrained VAE: 3 channels to 4, factor 4, only convolutions: all aspect ratios are alike."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(24, 48, 96),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def build_text_encoder(*, vocab_size: int, bos: int, eos: int) -> CLIPTextModel:
    """Return an untrained two-layer CLIP text model of width 128 over 77 tokens."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TEXT_TOKENS,
            hidden_act="quick_gelu",
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=eos,
        )
    )


def build_unet() -> UNet2DConditionModel:
    """Return an untrained UNet: 64 and 128 channels, cross-attention at both, pooled text with the time."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 128),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=8,
    )


_NOISE: Final[dict[str, object]] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
    # Clipping to [-1, 1] is for pixels; in latent space it ruins every sample.
    "clip_sample": False,
}


def build_training_noise() -> DDPMScheduler:
    """Return the forward noise schedule, Stable Diffusion's own."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    return DDPMScheduler(**_NOISE)


def build_sampler() -> DDIMScheduler:
    """Return the sampler that ships with the pipeline."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    return DDIMScheduler(**_NOISE, set_alpha_to_one=False, steps_offset=1)


def build_transformer() -> FluxTransformer2DModel:
    """Return an untrained FLUX.1 transformer: 2 + 4 blocks of width 192, patches of 2 x 2 latents.

    Modulations and the last layer start at zero, as a DiT's do, so that every block starts as the identity.
    """
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
    from torch import nn

    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * LATENT_CHANNELS,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=32,
        num_attention_heads=6,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=False,
        axes_dims_rope=(8, 12, 12),
    )
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
            if name == "proj_out" or re.search(r"norm\w*\.linear$", name):
                nn.init.zeros_(module.weight)
    return transformer


def build_flow_sampler() -> FlowMatchEulerDiscreteScheduler:
    """Return the sampler that ships with the second pipeline: Euler, a static shift."""
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT)
