"""Tiny random CLIP, DINO and SSCD in the formats in which people have the real ones."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch

_VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_VISION |= {"image_size": 24, "patch_size": 8}


def write_clip(folder: Path, tiny_sd: Path) -> Path:
    """A CLIP with the text encoder and tokenizer of a tiny Stable Diffusion."""
    from transformers import CLIPConfig, CLIPModel

    text = json.loads((tiny_sd / "text_encoder" / "config.json").read_text())
    config = CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=12)
    CLIPModel(config).save_pretrained(folder, safe_serialization=True)
    for file in (tiny_sd / "tokenizer").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    how = {"do_resize": True, "size": {"shortest_edge": 24}, "resample": 3, "do_center_crop": True}
    how |= {"crop_size": {"height": 24, "width": 24}, "do_normalize": True, "do_rescale": True}
    how |= {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "rescale_factor": 1 / 255}
    how["image_processor_type"] = "CLIPImageProcessor"
    (folder / "preprocessor_config.json").write_text(json.dumps(how))
    return folder


def write_dino(folder: Path) -> Any:
    """A ViT as DINO's; returns the model."""
    from transformers import ViTConfig, ViTModel

    model = ViTModel(ViTConfig(**_VISION), add_pooling_layer=False).eval()
    model.save_pretrained(folder, safe_serialization=True)
    how = {"do_resize": True, "size": {"height": 24, "width": 24}, "resample": 2, "image_mean": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(how | {"image_std": [0.5] * 3}))
    return model


def write_sscd(file: Path) -> Path:
    """A TorchScript of descriptors of 16 numbers, from pictures of 320 px."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, stride=8), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # how its authors publish it
        torch.jit.trace(net, torch.zeros(1, 3, 320, 320)).save(str(file))
    return file
