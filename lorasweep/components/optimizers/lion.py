"""Lion: steps of one size, in the direction of the sign of a momentum; half of AdamW's memory."""

from __future__ import annotations

from lorasweep.components.optimizers import _knobs
from lorasweep.core.ranges import Positive
from lorasweep.core.records import Advice

ADVICE = (
    Advice(
        key="optimizer.lr",
        high=1e-4,
        reason="Lion moves every weight by the whole lr in each step: a third to a tenth of AdamW's is usual",
    ),
)


def build(
    groups: _knobs.Groups,
    *,
    lr: Positive,
    text_encoder_lr: _knobs.TextEncoderRate,
    betas: tuple[_knobs.Beta, _knobs.Beta],
    weight_decay: _knobs.WeightDecay,
    loraplus_lr_ratio: _knobs.UpRatio = None,
) -> _knobs.Optimizer:
    """Build the optimizer.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023), program 1.
    """
    from pytorch_optimizer import Lion

    made = _knobs.param_groups(groups, lr=lr, text_encoder_lr=text_encoder_lr, loraplus_lr_ratio=loraplus_lr_ratio)
    return Lion(made, lr=lr, betas=(betas[0], betas[1]), weight_decay=weight_decay)
