"""LoRA: beside each chosen weight W a trainable product, W + (alpha / dim) * up @ down. Through PEFT.

Takes a frozen base, returns a `protocols.Adapter` that is the identity until trained.
"""

from __future__ import annotations

from lorasweep.components.adapters import _shapes
from lorasweep.components.adapters._knobs import Alpha, Dropout, Init, Rank, Targets
from lorasweep.core.protocols import Adapter, Base

layer_shapes = _shapes.low_rank
READ_BY = ("comfyui", "forge", "a1111", "kohya", "diffusers")
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
    init: Init = None,
) -> Adapter:
    """Put a LoRA into `base`, drawn from `seed`.

    Raises:
        InputError: `init` does not fit.
        AdapterError: the base has no module of that kind.

    Source: Hu et al., "LoRA" (2021), eq. 3; down starts Kaiming-uniform as in their code, up starts at zero.
    """
    from lorasweep.components.adapters._lora import draw, lora_config
    from lorasweep.components.adapters._peft import build_peft
    from lorasweep.components.adapters._targets import targets_by_part

    configs = {
        part: lora_config(names, dim=dim, alpha=alpha, dropout=dropout)
        for part, names in targets_by_part(base, targets, text_encoder=text_encoder).items()
    }
    return build_peft(base, configs, seed=seed, init=draw, start=init)
