"""Schedule-free AdamW: an average of all iterates takes the place of a falling learning rate.

What trains and what is used differ: the gradient is taken between the last iterate and the average, and the
average is the result. `weights_for_use` puts it into the adapter wherever one is judged or saved.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from lorasweep.components.optimizers import _knobs
from lorasweep.core.ranges import Positive
from lorasweep.core.records import Recipe

ADVICE = _knobs.USUAL_LR


def build(
    groups: _knobs.Groups,
    *,
    lr: Positive,
    text_encoder_lr: _knobs.TextEncoderRate,
    betas: tuple[Annotated[float, Field(gt=0, lt=1, description="0.9 is usual")], _knobs.Beta],
    weight_decay: _knobs.WeightDecay,
    loraplus_lr_ratio: _knobs.UpRatio = None,
) -> _knobs.Optimizer:
    """Build the optimizer.

    Source: Defazio et al., "The Road Less Scheduled" (2024), algorithm 1.
    """
    from pytorch_optimizer import ScheduleFreeAdamW

    made = _knobs.param_groups(groups, lr=lr, text_encoder_lr=text_encoder_lr, loraplus_lr_ratio=loraplus_lr_ratio)
    return ScheduleFreeAdamW(made, lr=lr, betas=(betas[0], betas[1]), weight_decay=weight_decay)


def warnings(recipe: Recipe) -> Iterator[str]:
    """List what a person would want to know, for `plan`."""
    schedule = recipe.scheduler.name
    if schedule != "constant":
        yield (
            f"a schedule-free optimizer averages instead of lowering its lr: scheduler={schedule} lowers it "
            "as well; scheduler=constant is meant, at most with a warm-up"
        )
    if "scale_norm" in recipe.regularization:
        yield "scale_norm limits the weights that train; schedule_free_adamw's average may exceed the limit"


@contextlib.contextmanager
def weights_for_use(optimizer: Any) -> Iterator[None]:
    """Put the average in the parameters' place; afterwards training's own again, bit for bit."""
    import torch

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    training = [parameter.detach().clone() for parameter in parameters]
    optimizer.eval()
    try:
        yield
    finally:
        optimizer.train()
        with torch.no_grad():  # train() computes them back, which rounds
            for parameter, value in zip(parameters, training, strict=True):
                parameter.copy_(value)
