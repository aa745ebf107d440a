"""A LoRA's file as diffusers reads it: PEFT names, rank and alpha in the metadata.

Takes tensors and PEFT configs by part of the model. Equal adapters give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep.core.safetensors_header import sort_metadata

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig


def write_lora(path: Path, state: Mapping[str, torch.Tensor], configs: Mapping[str, PeftConfig]) -> None:
    """Write what diffusers' `load_lora_weights` reads.

    Args:
        path: a .safetensors, overwritten.
        state: tensors named `unet.conv_in.lora_A.weight`.
        configs: of every part that is trained, by diffusers' prefixes.
    """
    import diffusers

    layers: dict[str, Any] = {f"{part}_lora_layers": {} for part in configs}
    for key, tensor in state.items():
        part, name = key.split(".", 1)
        # DoRA's magnitudes keep `.weight`: by it alone does transformers find those of a text encoder, whose
        # tensors diffusers hands on to it.
        layers[f"{part}_lora_layers"][name] = tensor
    metadata = {f"{part}_lora_adapter_metadata": _metadata(config) for part, config in configs.items()}
    # Of all pipelines with a UNet, XL's knows every text encoder; the files are alike, as are those of transformers.
    pipeline = diffusers.StableDiffusionXLPipeline if "unet" in configs else diffusers.FluxPipeline
    pipeline.save_lora_weights(str(path.parent), weight_name=path.name, **layers, **metadata)
    sort_metadata(path)


def _metadata(config: PeftConfig) -> dict[str, Any]:
    """The config as JSON wants it; sets are sorted, so that equal adapters give equal files."""
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
