"""DoRA: LoRA turns each output's direction, and a trained magnitude sets its length. Through PEFT.

Takes a frozen base, returns a `protocols.Adapter` that is the identity until trained.

Weight w means W + w * (W' - W), where W' is the weight as trained: how ComfyUI weighs a DoRA. PEFT and
diffusers scale the product inside the norm instead, so their pictures agree with these at 1 only, and their
weight 0 is not the base. With a base in half precision, norms of convolutions round, so a fresh DoRA may be
off by one rounding.
"""

from __future__ import annotations

from typing import Any

from lorasweep.components.adapters._knobs import Alpha, Dropout, Init, Rank, Shape, Targets, low_rank
from lorasweep.core.protocols import Adapter, Base

NEEDS_BASE_WEIGHTS = True  # for the norm of each output
LYCORIS_ARGUMENTS = {"algo": "lora", "dora_wd": "True", "wd_on_output": "True"}  # what its files say they are
SECOND_FACTOR = "lora_B"
READ_BY = ("comfyui", "forge")  # A1111 and diffusers take dora_scale for something else, without a word


def build(
    base: Base,
    *,
    seed: int,
    dim: Rank,
    alpha: Alpha,
    targets: Targets,
    text_encoder: bool,
    dropout: Dropout,
    init: Init = None,
) -> Adapter:
    """Put a DoRA into `base`, drawn from `seed`.

    Source: Liu et al., "DoRA" (2024), eq. 5; the norm counts as a constant in the gradient (section 4.3).
    """
    from peft import LoraConfig

    from lorasweep.components.adapters._lora import DoraAdapter, draw
    from lorasweep.components.adapters._peft import build_peft, configs_by_part

    fields = {"r": dim, "lora_alpha": alpha, "lora_dropout": dropout, "use_dora": True}
    configs = configs_by_part(base, LoraConfig, targets, text_encoder=text_encoder, **fields)
    return build_peft(base, configs, seed=seed, init=draw, start=init, kind=DoraAdapter)


def layer_shapes(shape: Shape, **knobs: Any) -> list[Shape]:
    """Return a LoRA's, and the magnitudes."""
    return [*low_rank(shape, **knobs), shape[:1]]
