"""DyLoRA: a LoRA that is trained at a randomly drawn rank each batch, so that any rank can be cut from it.

Takes a frozen base, returns a `protocols.Adapter` that is the identity until trained. Samples and judgement
see the whole rank, always; a cut to rank b is down's first b rows and up's first b columns, alpha the same.

This is the paper's: the product is truncated at the drawn rank b and scaled by alpha / b. Two trainers mean
other things by the word: kohya multiplies all rows and lets only the drawn block learn, scaled by
alpha / dim * sqrt(dim / b); LyCORIS truncates, but scales by block size * alpha / b.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lorasweep.components.adapters._knobs import Alpha, Init, Rank, Targets, low_rank
from lorasweep.core.protocols import Adapter, Base

layer_shapes = low_rank
SECOND_FACTOR = "lora_B"
READ_BY = ("comfyui", "forge", "a1111", "kohya", "diffusers")
IS_PRODUCT = True
SHARES_FORWARD = True


def build(
    base: Base,
    *,
    seed: int,
    dim: Rank,
    alpha: Alpha,
    unit: Annotated[int, Field(ge=1, description="4 is usual")],
    targets: Targets,
    text_encoder: bool,
    init: Init = None,
) -> Adapter:
    """Put a DyLoRA into `base`, drawn from `seed`.

    Source: Valipour et al., "DyLoRA" (2022), section 3 and algorithm 1, without the frozen variant: every row
    up to the drawn rank learns.
    """
    from peft import LoraConfig

    from lorasweep.components.adapters._lora import DyLoraAdapter, draw
    from lorasweep.components.adapters._peft import build_peft, configs_by_part

    fields = {"r": dim, "lora_alpha": alpha, "lora_dropout": 0.0}
    configs = configs_by_part(base, LoraConfig, targets, text_encoder=text_encoder, **fields)
    adapter = build_peft(base, configs, seed=seed, init=draw, start=init, kind=DyLoraAdapter)
    adapter.ranks = range(unit, dim + 1, unit)
    return adapter


def problems(*, dim: int, unit: int) -> list[tuple[str, str, str]]:
    """Name a rank that is no multiple of its unit."""
    return [("unit", f"must divide dim, got {unit} for dim {dim}", "4 is usual")] if dim % unit else []
