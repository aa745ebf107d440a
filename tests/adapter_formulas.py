"""Published formulas of what each kind of adapter adds to a weight, in float64, from its `state_dict` alone.

Written from the papers and the loaders of the UIs, never from our own layers: `test_adapters` merges with
these and compares. A new adapter brings its formula here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

Tensors = Mapping[str, torch.Tensor]  # one module's, by the end of their names
Delta = Callable[[torch.Tensor, Tensors, dict[str, Any]], torch.Tensor]


def lora(weight: torch.Tensor, tensors: Tensors, knobs: dict[str, Any]) -> torch.Tensor:
    """Hu et al. (2021), eq. 3: alpha / dim * up @ down, flat over a convolution's kernel (kohya)."""
    down, up = tensors["lora_A.weight"], tensors["lora_B.weight"]
    prefix = "conv_" if weight.dim() == 4 and weight.shape[2] > 1 and "conv_dim" in knobs else ""
    scale = knobs[f"{prefix}alpha"] / knobs[f"{prefix}dim"]
    assert down.shape[0] == knobs[f"{prefix}dim"]
    return scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)


def dora(weight: torch.Tensor, tensors: Tensors, knobs: dict[str, Any]) -> torch.Tensor:
    """Liu et al. (2024), eq. 5: m * (W + BA) / ||W + BA||, a norm per output; less W."""
    moved = weight + lora(weight, tensors, knobs)
    shape = (-1, *[1] * (weight.dim() - 1))
    norm = moved.flatten(1).norm(dim=1).reshape(shape)
    return tensors["lora_magnitude_vector.weight"].reshape(shape) * moved / norm - weight


def loha(weight: torch.Tensor, tensors: Tensors, knobs: dict[str, Any]) -> torch.Tensor:
    """Hyeon-Woo et al. (2022): alpha / dim * (w1_a w1_b) * (w2_a w2_b), flat over a kernel (LyCORIS)."""
    first = tensors["hada_w1_a"] @ tensors["hada_w1_b"]
    second = tensors["hada_w2_a"] @ tensors["hada_w2_b"]
    return knobs["alpha"] / knobs["dim"] * (first * second).reshape(weight.shape)


def lokr(weight: torch.Tensor, tensors: Tensors, knobs: dict[str, Any]) -> torch.Tensor:
    """Yeh et al. (2024): w1 (x) w2; scaled by alpha / dim only if a side is a product (the UIs' loaders)."""
    sides, scale = [], 1.0
    for side in ("lokr_w1", "lokr_w2"):
        if side in tensors:
            sides.append(tensors[side])
        else:
            sides.append(tensors[f"{side}_a"] @ tensors[f"{side}_b"])
            scale = knobs["alpha"] / knobs["dim"]
    small, large = (side.flatten(1) for side in sides)
    return scale * torch.kron(small, large).reshape(weight.shape)


def ia3(weight: torch.Tensor, tensors: Tensors, knobs: dict[str, Any]) -> torch.Tensor:
    """LyCORIS and A1111: W * l' over inputs or outputs, l' = l - 1. The side is told by Liu et al. (2022)."""
    factors = tensors["ia3_l"]
    is_feed_forward = weight.shape[1] > weight.shape[0]  # the layer back from the wide middle
    return weight * (factors if is_feed_forward and factors.numel() == weight.shape[1] else factors[:, None])


FORMULAS: dict[str, Delta] = {
    "lora": lora,
    "locon": lora,
    "dora": dora,
    "dylora": lora,
    "loha": loha,
    "lokr": lokr,
    "ia3": ia3,
}


def merge(model: torch.nn.Module, part: str, state: Tensors, *, name: str, knobs: dict[str, Any], weight: float) -> int:
    """Add `weight` times each module's delta to a plain model's weights; returns how many were changed."""
    modules: dict[str, dict[str, torch.Tensor]] = {}
    paths = [path for path, module in model.named_modules() if hasattr(module, "weight")]
    for key, tensor in state.items():
        if key.startswith(f"{part}."):
            path = next(path for path in paths if key.startswith(f"{part}.{path}."))
            modules.setdefault(path, {})[key.removeprefix(f"{part}.{path}.")] = tensor.double()
    for path, tensors in modules.items():
        plain = model.get_submodule(path).weight
        assert isinstance(plain, torch.nn.Parameter)
        delta = FORMULAS[name](plain.detach().double(), tensors, knobs)
        assert delta.abs().max() > 0, f"{path} was not trained"
        plain.data = (plain.detach().double() + weight * delta).to(plain.dtype)
    return len(modules)
