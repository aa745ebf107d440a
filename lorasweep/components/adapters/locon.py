"""LoCon: LoRA on the transformer blocks and on the residual blocks, as kohya's `conv_dim` does it.

Takes a frozen base, returns a `protocols.Adapter` that is the identity until trained. Through PEFT.
"""

from __future__ import annotations

from lorasweep.components.adapters._knobs import Alpha, Dropout, Init, Rank, low_rank
from lorasweep.core.protocols import Adapter, Base

layer_shapes = low_rank
SECOND_FACTOR = "lora_B"
READ_BY = ("comfyui", "forge", "a1111", "kohya", "diffusers")
IS_PRODUCT = True
SHARES_FORWARD = True
_MOST_CONV_DIM, _MOST_CONV_ALPHA = 64, 32.0


def build(
    base: Base,
    *,
    seed: int,
    dim: Rank,
    alpha: Alpha,
    conv_dim: Rank,
    conv_alpha: Alpha,
    text_encoder: bool,
    dropout: Dropout,
    force: bool,
    rank_dropout: Dropout = 0.0,
    module_dropout: Dropout = 0.0,
    init: Init = None,
) -> Adapter:
    """Put a LoCon into `base`, drawn from `seed`.

    Source: kohya-ss/sd-scripts, networks/lora.py, LoRANetwork.create_modules.
    """
    from peft import LoraConfig

    from lorasweep.components.adapters._lora import build_lora
    from lorasweep.components.adapters._targets import find_spatial, targets_by_part

    configs = {}
    for part, names in targets_by_part(base, "full", text_encoder=text_encoder).items():
        spatial = find_spatial(base.parts[part], names)
        configs[part] = LoraConfig(
            target_modules=names,
            r=dim,
            lora_alpha=alpha,  # type: ignore[arg-type]  # which is divided like a float
            lora_dropout=dropout,
            rank_pattern=dict.fromkeys(spatial, conv_dim),
            alpha_pattern=dict.fromkeys(spatial, conv_alpha),
        )
    return build_lora(base, configs, seed=seed, start=init, rank_dropout=rank_dropout, module_dropout=module_dropout)


def problems(*, conv_dim: int, conv_alpha: float, force: bool) -> list[tuple[str, str, str]]:
    """Name a rank that is more than holds up, unless it is meant."""
    hint = "the convolutions then take over and burn; adapter.force=true if you mean it"
    most = {"conv_dim": (conv_dim, _MOST_CONV_DIM), "conv_alpha": (conv_alpha, _MOST_CONV_ALPHA)}
    return [
        (knob, f"must be <= {limit:g}, got {value:g}", hint)
        for knob, (value, limit) in most.items()
        if value > limit and not force
    ]
