"""A tiny random FLUX.1 in diffusers' folder format: real classes, meaningless weights.

Its second text encoder is a CLIP too, of another width, cut to fewer tokens, as in the second dollhouse.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_sd import WORDS, byte_pairs, tiny_clip, tiny_vae

TOKENS = 24  # of the second text encoder
DYNAMIC = {"use_dynamic_shifting": True, "base_image_seq_len": 16, "max_image_seq_len": 64}


def make_tiny_flux(folder: Path, *, dynamic_shift: bool = False, seed: int = 0) -> Path:
    """Write the folder and return it.

    Args:
        folder: made when missing.
        dynamic_shift: whether the sampler's shift goes by the number of image tokens; else it is 2.
        seed: of the weights.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
    from transformers import CLIPTokenizer

    vocab, merges = byte_pairs(WORDS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = tiny_transformer()
        encoders = [tiny_clip(hidden_size=width) for width in (32, 48)]
        vae = tiny_vae(scaling_factor=0.36, shift_factor=0.12)
    pipeline = FluxPipeline(
        transformer=transformer,
        vae=vae,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77),
        tokenizer_2=CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TOKENS),
        scheduler=FlowMatchEulerDiscreteScheduler(**(DYNAMIC if dynamic_shift else {"shift": 2.0})),
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_transformer(**config: Any) -> Any:
    """A random FLUX.1 transformer for the VAE and text encoders here."""
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=48,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 6, 6),
        **config,
    )
