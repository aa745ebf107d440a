"""A DoRA for UIs: factors and a `dora_scale` as ComfyUI and Forge read them, or whole differences for any.

A DoRA is W' = m * (W + D) / |W + D|, D = alpha / dim * up @ down, norms per output. Loaders disagree on them:

    ComfyUI, Forge   dora_scale * (W + D) / |W|      per output, when dora_scale has a number per output
    A1111            dora_scale * (W + D) / |W + D|  per input, always

So m itself is right in neither. Here dora_scale = m * |W| / |W + D|, which ComfyUI and Forge turn into W',
and at weight w into W + w * (W' - W), which is what was judged. A1111 can be given a DoRA per output only as
`diff` = W' - W: as large as the base's own weights, and exact in all of them.

Source: ComfyUI 0.3.77, comfy/weight_adapter/base.py, weight_decompose; Forge has the same; A1111 1.9,
extensions-builtin/Lora/network.py, apply_weight_decompose, and network_full.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from lorasweep.adapters.kohya_names import kohya_name
from lorasweep.export.kohya import Tensors, alpha_of, to_kohya

MAGNITUDE = ".lora_magnitude_vector"
Form = Literal["comfyui", "any"]


def modules_of(tensors: Mapping[str, np.ndarray]) -> list[str]:
    """The modules that have magnitudes, `unet.<module>` or `text_encoder.<module>`."""
    return [key.partition(MAGNITUDE)[0] for key in tensors if MAGNITUDE in key]


def to_uis(
    tensors: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    *,
    form: Form,
) -> Tensors:
    """Rename and fold.

    Args:
        tensors: of an `adapter.safetensors` in PEFT's names.
        config: that file's `lora_adapter_metadata`.
        weights: of the base, by the modules of `modules_of`.
        form: `comfyui` for factors and dora_scale, `any` for whole differences.
    """
    factors = {key: tensor for key, tensor in tensors.items() if MAGNITUDE not in key}
    found: Tensors = to_kohya(factors, config) if form == "comfyui" else {}
    magnitudes = {key.partition(MAGNITUDE)[0]: tensor for key, tensor in tensors.items() if MAGNITUDE in key}
    for module, magnitude in magnitudes.items():
        down, up = (factors[f"{module}.lora_{which}.weight"].astype(np.float64) for which in "AB")
        plain = weights[module].astype(np.float64)
        scale = alpha_of(module, config) / down.shape[0]
        flat = plain.reshape(plain.shape[0], -1)
        moved = flat + scale * up.reshape(len(up), -1) @ down.reshape(len(down), -1)
        length = magnitude.astype(np.float64).reshape(-1, 1) / np.linalg.norm(moved, axis=1, keepdims=True)
        if form == "any":
            difference = (length * moved - flat).reshape(plain.shape)
            found[f"{kohya_name(module)}.diff"] = difference.astype(np.float32)
        else:
            folded = length * np.linalg.norm(flat, axis=1, keepdims=True)
            shape = (-1, *[1] * (plain.ndim - 1))
            found[f"{kohya_name(module)}.dora_scale"] = folded.reshape(shape).astype(np.float32)
    return found
