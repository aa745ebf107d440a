"""Adafactor: keeps row and column means of the squared gradient instead of all of it.

The learning rate is the schedule's: Adafactor's own `relative_step` is not offered, since it would ignore it.
"""

from __future__ import annotations

from lorasweep.components.optimizers import _knobs
from lorasweep.core.ranges import Positive

ADVICE = _knobs.USUAL_LR


def build(
    groups: _knobs.Groups,
    *,
    lr: Positive,
    text_encoder_lr: _knobs.TextEncoderRate,
    weight_decay: _knobs.WeightDecay,
    clip_threshold: Positive,
    scale_parameter: bool,
    loraplus_lr_ratio: _knobs.UpRatio = None,
) -> _knobs.Optimizer:
    """Build the optimizer.

    Source: Shazeer & Stern, "Adafactor" (2018), algorithm 4 without its step size and momentum.
    """
    from pytorch_optimizer import AdaFactor

    made = _knobs.param_groups(groups, lr=lr, text_encoder_lr=text_encoder_lr, loraplus_lr_ratio=loraplus_lr_ratio)
    return AdaFactor(
        made,
        lr=lr,
        betas=(None, 0.9999),  # no momentum; the decay of the means grows as in the paper for 100 000 steps
        weight_decay=weight_decay,
        clip_threshold=clip_threshold,
        scale_parameter=scale_parameter,
        relative_step=False,
    )
