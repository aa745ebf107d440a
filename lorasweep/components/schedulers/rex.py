"""REX: stays near the peak for long and falls steeply at the end; the reflection of an exponential decay."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lorasweep.components.schedulers._warmup import Warmup, after_warmup
from lorasweep.core.protocols import Schedule


def build(
    total_steps: int,
    *,
    bend: Annotated[float, Field(ge=0, lt=1, description="0.9 as trainers have it, 0.5 as the paper")],
    warmup: Warmup,
) -> Schedule:
    """Warm up, then fall late.

    With p in [0, 1] the progress after warm-up: lr = peak * (1 - p) / (1 - bend + bend * (1 - p)).

    Source: Chen, Wolfe & Kyrillidis, "REX: Revisiting Budgeted Training with an Improved Schedule" (2022),
    section 4, where bend is 0.5. Trainers of LoRAs have 0.9 (OneTrainer, lr_lambda_rex), as is our default.
    """

    def curve(done: int, of: int, peak_lr: float) -> float:
        left = max(0.0, 1.0 - done / of)
        return peak_lr * left / (1.0 - bend + bend * left)

    return after_warmup(total_steps, warmup, curve)
