"""A DoRA's magnitudes as ComfyUI and Forge read them.

A DoRA is W' = m * (W + D) / |W + D|, D = alpha / dim * up @ down, norms per output. Loaders disagree on them:

    ComfyUI, Forge   dora_scale * (W + D) / |W|      per output, when dora_scale has a number per output
    A1111            dora_scale * (W + D) / |W + D|  per input, always
    diffusers        dora_scale * (W + D) / |W + D|  per output, and at weight w with w * D inside the norm

So m itself is right in none at the weight that was judged. Here dora_scale = m * |W| / |W + D|, which ComfyUI
and Forge turn into W', and at weight w into W + w * (W' - W), which is what was judged. The others can be
given W' - W only, whole: see `forms`.

Source: ComfyUI 0.3.77, comfy/weight_adapter/base.py, weight_decompose; Forge has the same; A1111 1.9,
extensions-builtin/Lora/network.py, apply_weight_decompose; PEFT 0.21.2, tuners/lora/dora.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorasweep.results.export.kohya import Tensors

if TYPE_CHECKING:
    from lorasweep.components.adapters._dora import DoraAdapter

MAGNITUDE = ".lora_magnitude_vector"


def dora_scales(adapter: DoraAdapter) -> Tensors:
    """`dora_scale` of each module, a number per output; the adapter sits in its base."""
    import torch

    found: Tensors = {}
    for path, layer in adapter.layers.items():
        weight = layer.get_base_layer().weight.detach().double()
        moved = weight + adapter.product(layer).detach()
        before, after = (torch.linalg.vector_norm(each.flatten(1), dim=1) for each in (weight, moved))
        magnitude = layer.lora_magnitude_vector[adapter.name].weight.detach().double().flatten()
        folded = (magnitude * before / after).float().view(-1, *[1] * (weight.ndim - 1))
        found[f"{adapter.kohya_name(path)}.dora_scale"] = folded.numpy()
    return found
