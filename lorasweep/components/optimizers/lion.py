"""Lion: steps of one size, in the direction of the sign of a momentum; half of AdamW's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lorasweep.components.optimizers._groups import Beta, TextEncoderRate, WeightDecay, param_groups
from lorasweep.core.ranges import Positive
from lorasweep.core.records import Advice

if TYPE_CHECKING:
    import torch

ADVICE = (
    Advice(
        key="optimizer.lr",
        high=1e-4,
        reason="Lion moves every weight by the whole lr in each step: a third to a tenth of AdamW's is usual",
    ),
)


def build(
    groups: Mapping[str, Sequence[torch.nn.Parameter]],
    *,
    lr: Positive,
    text_encoder_lr: TextEncoderRate,
    betas: tuple[Beta, Beta],
    weight_decay: WeightDecay,
) -> torch.optim.Optimizer:
    """Build the optimizer.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023), program 1.
    """
    from pytorch_optimizer import Lion

    made = param_groups(groups, lr=lr, text_encoder_lr=text_encoder_lr)
    return Lion(made, lr=lr, betas=(betas[0], betas[1]), weight_decay=weight_decay)
