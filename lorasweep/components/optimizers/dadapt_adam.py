"""D-Adapt Adam: Adam that estimates how far the solution is, and steps by that; Prodigy's elder relative.

It has one step size for everything, so there is no lr of the text encoder's own.
"""

from __future__ import annotations

from lorasweep.components.optimizers import _knobs
from lorasweep.core.ranges import Positive

FINDS_STEP_SIZE = "d0"  # what to turn in place of the lr, which stays 1


def build(
    groups: _knobs.Groups,
    *,
    lr: Positive,
    betas: tuple[_knobs.Beta, _knobs.Beta],
    weight_decay: _knobs.WeightDecay,
    d0: _knobs.FirstStepSize,
) -> _knobs.Optimizer:
    """Build the optimizer.

    Source: Defazio & Mishchenko, "Learning-Rate-Free Learning by D-Adaptation" (2023), algorithm 5.
    """
    from pytorch_optimizer import DAdaptAdam

    made = _knobs.param_groups(groups, lr=lr, text_encoder_lr=None)
    return DAdaptAdam(made, lr=lr, betas=(betas[0], betas[1]), weight_decay=weight_decay, weight_decouple=True, d0=d0)


def logged(optimizer: _knobs.Optimizer) -> dict[str, float]:
    """Return what to log beside the lr: the estimate `d`, and `d_lr`, the lr that it amounts to."""
    group = optimizer.param_groups[0]
    return {"d": float(group["d"]), "d_lr": float(group["d"] * group["lr"])}
