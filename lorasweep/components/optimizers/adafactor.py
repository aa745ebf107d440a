"""Adafactor: keeps row and column means of the squared gradient instead of all of it.

The learning rate is the schedule's: Adafactor's own `relative_step` is not offered, since it would ignore it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lorasweep.components.optimizers._groups import USUAL_LR, TextEncoderRate, WeightDecay, param_groups
from lorasweep.core.ranges import Positive

if TYPE_CHECKING:
    import torch

ADVICE = USUAL_LR


def build(
    groups: Mapping[str, Sequence[torch.nn.Parameter]],
    *,
    lr: Positive,
    text_encoder_lr: TextEncoderRate,
    weight_decay: WeightDecay,
    clip_threshold: Positive,
    scale_parameter: bool,
) -> torch.optim.Optimizer:
    """Build the optimizer.

    Source: Shazeer & Stern, "Adafactor" (2018), algorithm 4 without its step size and momentum.
    """
    from pytorch_optimizer import AdaFactor

    made = param_groups(groups, lr=lr, text_encoder_lr=text_encoder_lr)
    return AdaFactor(
        made,
        lr=lr,
        betas=(None, 0.9999),  # no momentum; the decay of the means grows as in the paper for 100 000 steps
        weight_decay=weight_decay,
        clip_threshold=clip_threshold,
        scale_parameter=scale_parameter,
        relative_step=False,
    )
