"""How ComfyUI, Forge, A1111 and kohya's tools read one module of a LoRA file: their rules, written down anew.

Each takes the module's weight and the tensors of the file and returns the patched weight in float64, or the
weight as it is when it knows none of the module's tensors. diffusers is asked itself.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

Tensors = Mapping[str, torch.Tensor]
Reader = Callable[[torch.Tensor, Tensors, str, float], torch.Tensor]


def comfyui(weight: torch.Tensor, tensors: Tensors, name: str, strength: float) -> torch.Tensor:
    """ComfyUI and Forge: lora, loha, lokr, diff; a `dora_scale` over the norms of the base's own rows."""
    own = _own(tensors, name)
    added = _added(own, weight)
    if added is None:
        return weight
    if "dora_scale" in own:
        assert own["dora_scale"].shape[0] == weight.shape[0] and own["dora_scale"].dim() == weight.dim()
        rows = weight.flatten(1).norm(dim=1).reshape(own["dora_scale"].shape)
        added = (weight + added) * own["dora_scale"] / rows - weight
    return weight + strength * added


def a1111(weight: torch.Tensor, tensors: Tensors, name: str, strength: float) -> torch.Tensor:
    """A1111: also ia3; a `dora_scale` over the norms of the moved weight's columns."""
    own = _own(tensors, name)
    if "on_input" in own:
        factors = own["weight"] if own["on_input"].item() else own["weight"].reshape(-1, 1)
        return weight + strength * weight * factors
    added = _added(own, weight)
    if added is None:
        return weight
    if "dora_scale" in own:
        moved = weight + added
        columns = moved.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, -1, *[1] * (weight.dim() - 2))
        added = moved * own["dora_scale"] / columns - weight
    return weight + strength * added


def kohya(weight: torch.Tensor, tensors: Tensors, name: str, strength: float) -> torch.Tensor:
    """sd-scripts' merge_lora: up and down, nothing else."""
    own = _own(tensors, name)
    return weight + strength * _product(own).reshape(weight.shape) if "lora_down.weight" in own else weight


def in_diffusers(file: Path, tiny_sd: Path, weight: float) -> dict[str, torch.Tensor]:
    """What diffusers makes of the weights with the file at `weight`, by module, float64; raises when it refuses."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    pipeline = copy.deepcopy(_pipeline(tiny_sd))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="x")
    pipeline.set_adapters(["x"], [weight])
    found = {}
    for part in ("unet", "text_encoder"):
        for path, layer in getattr(pipeline, part).named_modules():
            if isinstance(layer, BaseTunerLayer):
                layer.merge(adapter_names=["x"])
                weights = layer.get_base_layer().weight.detach().double()
                found[f"{part}.{path.removeprefix('text_model.')}"] = weights
    return found


@functools.cache
def _pipeline(folder: Path) -> Any:
    """Read once a process."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)


READERS: dict[str, Reader] = {"comfyui": comfyui, "forge": comfyui, "a1111": a1111, "kohya": kohya}


def _own(tensors: Tensors, name: str) -> dict[str, torch.Tensor]:
    prefix = f"{name}."
    return {key[len(prefix) :]: t.double() for key, t in tensors.items() if key.startswith(prefix)}


def _added(own: Tensors, weight: torch.Tensor) -> torch.Tensor | None:
    if "lora_down.weight" in own:
        return _product(own).reshape(weight.shape)
    if "hada_w1_a" in own:
        scale = own["alpha"].item() / own["hada_w1_b"].shape[0]
        first, second = (own[f"hada_w{n}_a"] @ own[f"hada_w{n}_b"] for n in (1, 2))
        return scale * (first * second).reshape(weight.shape)
    if any(key.startswith("lokr_") for key in own):
        rank, sides = None, []
        for side in ("lokr_w1", "lokr_w2"):
            if side in own:
                sides.append(own[side].flatten(1))
            else:
                rank = own[f"{side}_b"].shape[0]
                sides.append(own[f"{side}_a"] @ own[f"{side}_b"].flatten(1))
        scale = 1.0 if rank is None else own["alpha"].item() / rank
        return scale * torch.kron(sides[0], sides[1]).reshape(weight.shape)
    if "a1" in (own := {key.removesuffix(".weight"): tensor for key, tensor in own.items()}):
        if own["a1"].shape[0] < own["a1"].shape[1]:  # of LyCORIS 2
            own |= {"a1": own["a2"], "a2": own["a1"], "b1": own["b2"], "b2": own["b1"]}
        a = own["a1"].flatten(1) @ own["a2"].flatten(1)
        moved = torch.einsum("oi...,ij->oj...", weight, a) + (own["b1"].flatten(1) @ own["b2"].flatten(1)).view_as(
            weight
        )
        return own["alpha"].item() / own["a1"].shape[1] * moved
    if "oft_blocks" in own:
        return _turned(own, weight) - weight
    if "diff" in own:
        assert own["diff"].shape == weight.shape  # ComfyUI leaves another shape out
        return own["diff"]
    return None


def _turned(own: Tensors, weight: torch.Tensor) -> torch.Tensor:
    """A1111, extensions-builtin/Lora/network_oft.py: kohya's and LyCORIS's blocks, alpha times outputs the bound."""
    skew = own["oft_blocks"] - own["oft_blocks"].transpose(1, 2)
    bound = own["alpha"].item() * weight.shape[0]
    if 0 < bound < skew.norm():
        skew = skew * bound / skew.norm()
    one = torch.eye(skew.shape[-1], dtype=skew.dtype)
    rotations = (one + skew) @ torch.linalg.inv(one - skew)
    turned = torch.einsum("knm,kn...->km...", rotations, weight.unflatten(0, skew.shape[:2])).flatten(0, 1)
    return turned * own["rescale"]


def _product(own: Tensors) -> torch.Tensor:
    down, up = own["lora_down.weight"], own["lora_up.weight"]
    assert up.shape[2:] == (1,) * (down.dim() - 2) and up.shape[1] == down.shape[0]
    return own["alpha"].item() / down.shape[0] * (up.flatten(1) @ down.flatten(1))
