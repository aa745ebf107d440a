"""The tensors of an exported file, in each form: factors in kohya's names, whole differences, a plain LoRA.

Letters: O outputs, I inputs, k the kernel's numbers (1 for a linear layer).

    unet.<module>.lora_A.weight  ->  lora_unet_<module>.lora_down.weight      as kohya's files have it
    unet.<module>.lora_B.weight  ->  lora_unet_<module>.lora_up.weight
    metadata                     ->  lora_unet_<module>.alpha

Without alpha per module a UI takes a scale of 1, and a dim 32, alpha 16 LoRA acts twice as strong as trained. A
transformer's file keeps diffusers' names, `transformer.<module>.lora_A.weight`, and has alpha / rank folded into its
`lora_B`: for most of them diffusers 0.42.1 reads no alpha, or refuses it, and ComfyUI takes a missing one as 1.

A DoRA is W' = m * (W + D) / |W + D|, D = alpha / dim * up @ down, norms per output. Loaders disagree on m:

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

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lorasweep.core import registry
from lorasweep.core.errors import AdapterError, InputError, Problem
from lorasweep.core.kohya_names import OWN, kohya_name, own_name
from lorasweep.core.protocols import TellsChanges
from lorasweep.results.runs import Checkpoint
from lorasweep.trial.resources import build_adapter

if TYPE_CHECKING:
    from lorasweep.components.adapters._lora import DoraAdapter


# Of every module, whatever its rank: diffusers 0.42.1 drops alphas that differ. A power of two near the usual
# ranks keeps the identity's numbers exact, and small in half precision.
ALPHA = 512.0
MAGNITUDE = ".lora_magnitude_vector"
Tensors = dict[str, np.ndarray]


def in_its_base(saved: Checkpoint) -> Any:
    """Put the adapter into its base, as trained; on the CPU, in fp32.

    Raises:
        InputError: the base is not there any more, or is another one; or the adapter tells no changes.
    """
    recipe = saved.recipe
    base_kind = registry.load("base", recipe.base.name)
    try:
        base = base_kind.load(recipe.base, device="cpu", precision="fp32")
        adapter = build_adapter(base, recipe, trained=True)
        adapter.load(saved.file)
    except (InputError, AdapterError, OSError) as error:
        message = f"this form is written with the base at hand: {type(error).__name__}: {error}"
        raise InputError(Problem("base.path", message, "it must be where it was trained"), subject="export") from error
    if not isinstance(adapter, TellsChanges):
        kind = recipe.adapter.name
        message = f"must be factors, its own tensors: adapter={kind} does not tell what it adds to a weight"
        raise InputError(Problem("--form", message, "leave out --for and --form"), subject="export")
    return adapter


def differences(adapter: TellsChanges, parts: Collection[str]) -> Tensors:
    """Return W' - W as `<module>.diff`, shaped as the weight; no kind of adapter moves a bias. `parts`: of the base."""
    return {
        f"{kohya_name(path, parts=parts)}.diff": adapter.delta(layer).detach().float().contiguous().numpy()
        for path, layer in adapter.layers.items()
    }


def as_lora(whole: Tensors) -> Tensors:
    """Give the same as a plain LoRA: one factor is the difference, the other the identity on its shorter side."""
    found: Tensors = {}
    for key, difference in whole.items():
        module = key.removesuffix(".diff")
        rank = min(difference.shape[0], difference[0].size)  # O or I * k
        identity = (rank / ALPHA) * np.eye(rank, dtype=difference.dtype)  # makes the scale 1
        if rank == difference.shape[0]:
            found |= _factors(module, difference, identity)
        else:
            found |= _factors(module, identity.reshape(rank, *difference.shape[1:]), difference)
        # diffusers finds a text encoder's keys and values only in files that have an out_proj.
        beside = module.replace("_self_attn_v_proj", "_self_attn_out_proj")
        if module.startswith("lora_te_") and f"{beside}.diff" not in whole:
            nothing = np.zeros_like(difference)
            found |= _factors(beside, nothing[:1], nothing[:, :1])
    return found


def _factors(module: str, down: np.ndarray, up: np.ndarray) -> Tensors:
    """Return down as it is, up flat; their rank is down's first side."""
    ones = [1] * (down.ndim - 2)
    if module.startswith(("transformer.", "text_encoder.")):
        scale = np.array(ALPHA / len(down), dtype=up.dtype)
        return {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up * scale}
    return {
        f"{module}.lora_down.weight": down,
        f"{module}.lora_up.weight": up.reshape(len(up), len(down), *ones),
        f"{module}.alpha": np.array(ALPHA, dtype=np.float32),
    }


def dora_scales(adapter: DoraAdapter) -> Tensors:
    """Return `dora_scale` of each module, a number per output; the adapter sits in its base."""
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


def named_as_its_own(tensors: Tensors, base: str) -> Tensors:
    """Rename a transformer's tensors as ComfyUI looks for them; see `kohya_names.OWN`.

    Queries, keys and values that are one module there become one, a LoRA's of their ranks together.

    Raises:
        InputError: they are factors of another kind, which cannot be put together.
    """
    if base not in OWN:
        return tensors
    found: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    for key, tensor in tensors.items():
        module, kind, _ = re.split(r"(\.lora_[AB]\.weight|\.[^.]+)$", key)
        found.setdefault((own_name(module, base), kind), {})["qkv".find(module[-1])] = tensor
    return {
        f"{name}{kind}": _joined(kind, [parts[at] for at in sorted(parts)]) for (name, kind), parts in found.items()
    }


def _joined(kind: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    if len(parts) == 1:
        return parts[0]
    if kind not in (".lora_A.weight", ".lora_B.weight", ".diff"):
        message = "must be lora: of other factors this base's queries, keys and values cannot be put together"
        raise InputError(Problem("--form", message, "give --form lora"), subject="export")
    from scipy.linalg import block_diag

    joined: np.ndarray = block_diag(*parts) if "_B" in kind else np.concatenate(parts)
    return joined


def alpha_of(path: str, config: Mapping[str, Any]) -> float:
    """Return the alpha of one module, `unet.<module>` or `text_encoder.<module>`."""
    part, module = path.split(".", 1)
    patterns: Mapping[str, float] = config[f"{part}.alpha_pattern"]
    return float(patterns.get(module, config[f"{part}.lora_alpha"]))
