"""LoRA: beside each chosen weight W a trainable product, W + (alpha / dim) * up @ down. Through PEFT.

Takes a frozen base, returns a `protocols.Adapter` that is the identity until trained.
"""

from __future__ import annotations

from lorasweep.components.adapters._knobs import Alpha, Dropout, Init, Rank, Targets, low_rank
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
    targets: Targets,
    text_encoder: bool,
    dropout: Dropout,
    rank_dropout: Dropout = 0.0,
    module_dropout: Dropout = 0.0,
    init: Init = None,
) -> Adapter:
    """Put a LoRA into `base`, drawn from `seed`.

    Source: Hu et al., "LoRA" (2021), eq. 3; down starts Kaiming-uniform as in their code, up starts at zero.
    """
    from peft import LoraConfig

    from lorasweep.components.adapters._lora import build_lora
    from lorasweep.components.adapters._peft import configs_by_part

    fields = {"r": dim, "lora_alpha": alpha, "lora_dropout": dropout}
    configs = configs_by_part(base, LoraConfig, targets, text_encoder=text_encoder, **fields)
    return build_lora(base, configs, seed=seed, start=init, rank_dropout=rank_dropout, module_dropout=module_dropout)
