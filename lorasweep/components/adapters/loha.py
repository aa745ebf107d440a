"""LoHa: two low-rank products, multiplied element by element: rank dim squared for the price of two LoRAs.

Takes a frozen base, returns a `protocols.Adapter` that is the identity until trained. Through PEFT, with the
first values of LyCORIS, so that learning rates found there hold here. Files are in LyCORIS's keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorasweep.components.adapters._knobs import Alpha, Dropout, Init, Rank, Targets, hadamard
from lorasweep.core.protocols import Adapter, Base
from lorasweep.core.records import Advice

if TYPE_CHECKING:
    import torch


layer_shapes = hadamard
READ_BY = ("comfyui", "forge", "a1111")
IS_PRODUCT = True
NEEDS_BASE_SHAPES = True  # of weights, which PEFT reshapes its products to
ADVICE = (
    Advice(
        key="adapter.dim",
        high=32,
        reason="a LoHa's rank is dim squared, so 32 can already reach all of SD 1.5's weights",
    ),
)


def build(
    base: Base,
    *,
    seed: int,
    dim: Rank,
    alpha: Alpha,
    targets: Targets,
    text_encoder: bool,
    module_dropout: Dropout = 0.0,
    init: Init = None,
) -> Adapter:
    """Put a LoHa into `base`, drawn from `seed`.

    Source: Hyeon-Woo et al., "FedPara" (2022), proposition 1; first values: LyCORIS, modules/loha.py.
    """
    from peft import LoHaConfig

    from lorasweep.components.adapters._lycoris import LycorisAdapter
    from lorasweep.components.adapters._peft import build_peft, configs_by_part

    # Its rank_dropout is left out: PEFT's is NaN where all rows of a layer are dropped.
    fields = {"r": dim, "alpha": alpha, "module_dropout": module_dropout}
    configs = configs_by_part(base, LoHaConfig, targets, text_encoder=text_encoder, **fields)
    return build_peft(base, configs, seed=seed, init=_draw, start=init, kind=LycorisAdapter)


def _draw(values: torch.Tensor, name: str, generator: torch.Generator) -> None:
    std = {"hada_w1_a": 0.1, "hada_w1_b": 1.0, "hada_w2_a": 0.0, "hada_w2_b": 1.0}[name.rsplit(".", 1)[1]]
    values.normal_(std=std, generator=generator)
