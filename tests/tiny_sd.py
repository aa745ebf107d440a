"""A tiny random Stable Diffusion in diffusers' folder format: real classes, 1.1 M meaningless weights.

Training, caches, adapters and sampling run on it in milliseconds. Nothing is downloaded: the tokenizer's
byte-pair files are written here too. Tests get it as the `tiny_sd` fixture (a folder).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = tuple("1girl zkw red blue green hair dress hat smile standing simple background".split())
START, END = "<|startoftext|>", "<|endoftext|>"


def draw_value_biases(encoder: Any) -> None:
    """Draw the biases of a text encoder's values: zero at first, they would hide what an adapter does to them."""
    import torch

    for name, parameter in encoder.named_parameters():
        if name.endswith("v_proj.bias"):
            torch.nn.init.normal_(parameter, std=0.1)


def make_tiny_sd(folder: Path, *, prediction_type: str = "epsilon", seed: int = 0) -> Path:
    """Write the folder and return it.

    Args:
        folder: made when missing.
        prediction_type: of the noise schedule, `epsilon` or `v_prediction`.
        seed: of the weights.
    """
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTokenizer

    vocab, merges = byte_pairs(WORDS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),  # as the last of the real one's four
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=4,
            norm_num_groups=8,
        )
        vae = tiny_vae()
        text_encoder = tiny_clip()
    pipeline = StableDiffusionPipeline(
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type=prediction_type,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    write_words(folder / "tokenizer", vocab, merges)
    return folder


def write_words(tokenizer: Path, vocab: dict[str, int], merges: list[tuple[str, str]]) -> None:
    """Write the layout of published checkpoints: the two byte-pair files beside the fast tokenizer's."""
    (tokenizer / "vocab.json").write_text(json.dumps(vocab))
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (tokenizer / "merges.txt").write_text("\n".join(lines) + "\n")


def tiny_clip(kind: Any = None, **config: Any) -> Any:
    """A random CLIP text encoder of width 32 for these words, or of another `kind` of transformers'."""
    from transformers import CLIPTextConfig, CLIPTextModel

    vocab, _ = byte_pairs(WORDS)
    usual = {
        "vocab_size": len(vocab),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "bos_token_id": vocab[START],
        "eos_token_id": vocab[END],
        "pad_token_id": vocab[END],
    }
    encoder = (kind or CLIPTextModel)(CLIPTextConfig(**{**usual, **config}))
    draw_value_biases(encoder)
    return encoder


def tiny_vae(**config: Any) -> Any:
    """A random VAE: 4 latent channels, 4 px per latent."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        **config,
    )


def zero_snr(folder: Path) -> Path:
    """Make a folder's noise schedule end in nothing but noise."""
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "rescale_betas_zero_snr": True}))
    return folder


def byte_pairs(words: tuple[str, ...]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's vocabulary layout: bytes, bytes that end a word, one token per merge, then the two marks."""
    printable = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
    # GPT-2's stand-ins for the bytes that cannot be printed
    shifted = [chr(256 + offset) for offset in range(256 - len(printable))]
    symbols = printable + shifted
    tokens = symbols + [symbol + "</w>" for symbol in symbols]
    merges: list[tuple[str, str]] = []
    for word in words:
        letters = [*word[:-1], word[-1] + "</w>"]
        left = letters[0]
        for right in letters[1:]:
            if (left, right) not in merges:
                merges.append((left, right))
                tokens.append(left + right)
            left += right
    tokens = list(dict.fromkeys(tokens))
    return {token: index for index, token in enumerate([*tokens, START, END])}, merges
