"""CAME: Adafactor's memory, with steps that shrink where the momentum and the gradient disagree."""

from __future__ import annotations

from lorasweep.components.optimizers import _knobs
from lorasweep.core.ranges import Positive

ADVICE = _knobs.USUAL_LR


def build(
    groups: _knobs.Groups,
    *,
    lr: Positive,
    text_encoder_lr: _knobs.TextEncoderRate,
    betas: tuple[_knobs.Beta, _knobs.Beta, _knobs.Beta],
    weight_decay: _knobs.WeightDecay,
    clip_threshold: Positive,
    loraplus_lr_ratio: _knobs.UpRatio = None,
) -> _knobs.Optimizer:
    """Build the optimizer.

    Source: Luo et al., "CAME: Confidence-guided Adaptive Memory Efficient Optimization" (2023), algorithm 2.
    """
    from pytorch_optimizer import CAME

    made = _knobs.param_groups(groups, lr=lr, text_encoder_lr=text_encoder_lr, loraplus_lr_ratio=loraplus_lr_ratio)
    return CAME(
        made,
        lr=lr,
        betas=(betas[0], betas[1], betas[2]),
        weight_decay=weight_decay,
        clip_threshold=clip_threshold,
    )
