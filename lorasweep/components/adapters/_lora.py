"""What LoRA, LoCon, DoRA and DyLoRA have in common: PEFT's config, and the first values of the factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from peft import LoraConfig


def lora_config(names: Sequence[str], *, dim: int, alpha: float, dropout: float, **more: Any) -> LoraConfig:
    """PEFT's config of a LoRA on the modules of these full names.

    Args:
        names: full module names.
        dim: rank.
        alpha: scale of the product, times dim.
        dropout: share of hidden inputs.
        more: further fields of `peft.LoraConfig`.
    """
    from peft import LoraConfig

    # PEFT annotates lora_alpha as int and divides it like a float.
    scale: Any = alpha
    return LoraConfig(target_modules=list(names), r=dim, lora_alpha=scale, lora_dropout=dropout, **more)


def draw(values: torch.Tensor, name: str, generator: torch.Generator) -> None:
    """Down Kaiming-uniform, up zero, as in the code of Hu et al.; DoRA's magnitudes stay the base's norms."""
    if ".lora_A." in name:
        torch.nn.init.kaiming_uniform_(values, a=5**0.5, generator=generator)
    elif ".lora_B." in name:
        values.zero_()
