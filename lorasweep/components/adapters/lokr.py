"""LoKr: a small matrix times a larger one, block by block (Kronecker); the larger one may be of low rank.

Takes a frozen base, returns a `protocols.Adapter` that is the identity until trained. Through PEFT, with the
first values and the scale of LyCORIS, so that learning rates found there hold here. Files are in its keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lorasweep.components.adapters._knobs import Alpha, Dropout, Init, Rank, Targets, kronecker
from lorasweep.core.protocols import Adapter, Base
from lorasweep.core.records import Advice

if TYPE_CHECKING:
    import torch


Factor = (
    Literal[-1]
    | Annotated[int, Field(ge=1, title="be >= 1, or -1 for the square root", description="4 to 16 is usual")]
)
layer_shapes = kronecker
READ_BY = ("comfyui", "forge", "a1111")
IS_PRODUCT = True
NEEDS_BASE_SHAPES = True  # of weights, which PEFT reshapes its products to
ADVICE = (
    Advice(
        key="adapter.dim",
        high=32,
        reason="the ranks of a LoKr's two matrices multiply, so 32 can already reach all weights",
    ),
    Advice(
        key="optimizer.lr",
        low=5e-5,
        high=8e-5,
        optimizers=("adamw", "adamw8bit"),
        reason="each number of a LoKr moves a whole block of weights, so it wants smaller steps than a LoRA",
    ),
)


def build(
    base: Base,
    *,
    seed: int,
    dim: Rank,
    alpha: Alpha,
    factor: Factor,
    decompose_both: bool,
    targets: Targets,
    text_encoder: bool,
    rank_dropout: Dropout = 0.0,
    module_dropout: Dropout = 0.0,
    init: Init = None,
) -> Adapter:
    """Put a LoKr into `base`, drawn from `seed`.

    Source: Yeh et al., "LyCORIS" (2024), section 4.1; first values and scale: LyCORIS, modules/lokr.py.
    """
    from peft import LoKrConfig

    from lorasweep.components.adapters._lycoris import LokrAdapter
    from lorasweep.components.adapters._peft import build_peft, configs_by_part

    fields = {"r": dim, "alpha": alpha, "decompose_factor": factor, "decompose_both": decompose_both}
    fields |= {"rank_dropout": rank_dropout, "module_dropout": module_dropout}
    configs = configs_by_part(base, LoKrConfig, targets, text_encoder=text_encoder, **fields)
    return build_peft(base, configs, seed=seed, init=_draw, start=init, kind=LokrAdapter)


def _draw(values: torch.Tensor, name: str, generator: torch.Generator) -> None:
    import torch

    if name.endswith((".lokr_w2", ".lokr_w2_b")):
        values.zero_()
    else:
        torch.nn.init.kaiming_uniform_(values, a=5**0.5, generator=generator)
