"""CAME: Adafactor's memory, with steps that shrink where the momentum and the gradient disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lorasweep.components.optimizers._groups import USUAL_LR, Beta, TextEncoderRate, WeightDecay, param_groups
from lorasweep.core.ranges import Positive

if TYPE_CHECKING:
    import torch

ADVICE = USUAL_LR


def build(
    groups: Mapping[str, Sequence[torch.nn.Parameter]],
    *,
    lr: Positive,
    text_encoder_lr: TextEncoderRate,
    betas: tuple[Beta, Beta, Beta],
    weight_decay: WeightDecay,
    clip_threshold: Positive,
) -> torch.optim.Optimizer:
    """Build the optimizer.

    Source: Luo et al., "CAME: Confidence-guided Adaptive Memory Efficient Optimization" (2023), algorithm 2.
    """
    from pytorch_optimizer import CAME

    made = param_groups(groups, lr=lr, text_encoder_lr=text_encoder_lr)
    return CAME(
        made,
        lr=lr,
        betas=(betas[0], betas[1], betas[2]),
        weight_decay=weight_decay,
        clip_threshold=clip_threshold,
    )
