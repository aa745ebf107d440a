"""What an adapter adds to each weight at weight 1, whole: for programs that do not know its kind.

Letters: O outputs, I inputs, k the kernel's numbers (1 for a linear layer).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lorasweep.core import registry
from lorasweep.core.errors import AdapterError, InputError, Problem
from lorasweep.results.export.kohya import Tensors
from lorasweep.results.runs import Checkpoint
from lorasweep.trial.resources import build_adapter

if TYPE_CHECKING:
    from lorasweep.components.adapters._peft import PeftAdapter

# Of every module, whatever its rank: diffusers 0.42.1 drops alphas that differ. A power of two near the usual
# ranks keeps the identity's numbers exact, and small in half precision.
ALPHA = 512.0


def in_its_base(saved: Checkpoint) -> Any:
    """Put the adapter into its base, as trained; on the CPU, in fp32.

    Raises:
        InputError: the base is not there any more, or is another one.
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
    return adapter


def differences(adapter: PeftAdapter) -> Tensors:
    """W' - W as `<module>.diff`, shaped as the weight; no kind of adapter moves a bias."""
    return {
        f"{adapter.kohya_name(path)}.diff": adapter.delta(layer).detach().float().contiguous().numpy()
        for path, layer in adapter.layers.items()
    }


def as_lora(whole: Tensors) -> Tensors:
    """The same as a plain LoRA: the difference is one factor, the other is the identity on its shorter side.

    Args:
        whole: of `differences`.
    """
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
    """Down as it is, up flat; their rank is down's first side."""
    ones = [1] * (down.ndim - 2)
    return {
        f"{module}.lora_down.weight": down,
        f"{module}.lora_up.weight": up.reshape(len(up), len(down), *ones),
        f"{module}.alpha": np.array(ALPHA, dtype=np.float32),
    }
