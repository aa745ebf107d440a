"""Tensors as kohya's LoRA files have them, from those that diffusers reads.

    unet.<module>.lora_A.weight  ->  lora_unet_<module>.lora_down.weight
    unet.<module>.lora_B.weight  ->  lora_unet_<module>.lora_up.weight
    metadata                     ->  lora_unet_<module>.alpha

Without alpha per module a UI takes a scale of 1, and a dim 32, alpha 16 LoRA acts twice as strong as trained. A
transformer's file keeps diffusers' names, `transformer.<module>.lora_A.weight`, and has alpha / rank folded into its
`lora_B`: for most of them diffusers 0.42.1 reads no alpha, or refuses it, and ComfyUI takes a missing one as 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lorasweep.core.kohya_names import kohya_name

Tensors = dict[str, np.ndarray]


def to_kohya(tensors: Mapping[str, np.ndarray], config: Mapping[str, Any], *, rank: int | None = None) -> Tensors:
    """Rename the tensors and give each module its alpha, or fold it into a transformer's.

    Args:
        tensors: of an `adapter.safetensors` in PEFT's names.
        config: that file's `lora_adapter_metadata`: `unet.r`, `unet.lora_alpha`, `unet.alpha_pattern`, ...
        rank: cut every product to its first `rank` rows, alpha unchanged: what a DyLoRA is trained for.

    Source: kohya-ss/sd-scripts, networks/lora.py; the cut: networks/extract_lora_from_dylora.py.
    """
    found: Tensors = {}
    parts = {key.split(".", 1)[0] for key in tensors}
    for key, tensor in tensors.items():
        module, _, factor = key.rpartition(".lora_")
        name = kohya_name(module, parts=parts)
        if "transformer" in parts:
            cut = tensor[:rank] if factor == "A.weight" else np.ascontiguousarray(tensor[:, :rank])
            scale = 1.0 if factor == "A.weight" else alpha_of(module, config) / cut.shape[1]
            found[f"{name}.lora_{factor}"] = cut * np.array(scale, dtype=cut.dtype)
        elif factor == "A.weight":
            found[f"{name}.lora_down.weight"] = tensor[:rank]
            found[f"{name}.alpha"] = np.array(alpha_of(module, config), dtype=np.float32)
        else:
            found[f"{name}.lora_up.weight"] = np.ascontiguousarray(tensor[:, :rank])
    return found


def alpha_of(path: str, config: Mapping[str, Any]) -> float:
    """Alpha of one module, `unet.<module>` or `text_encoder.<module>`."""
    part, module = path.split(".", 1)
    patterns: Mapping[str, float] = config[f"{part}.alpha_pattern"]
    return float(patterns.get(module, config[f"{part}.lora_alpha"]))
