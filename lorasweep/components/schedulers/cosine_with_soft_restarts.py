"""A smooth wave between the peak and zero: what OneTrainer calls cosine with restarts.

It swings back up instead of jumping, so a whole number of cycles ends at the peak, and half a cycle more ends
at zero. The jumping curve is `cosine_with_restarts`.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from lorasweep.components.schedulers._warmup import Warmup, after_warmup
from lorasweep.core.protocols import Schedule


def build(
    total_steps: int, *, num_cycles: Annotated[float, Field(gt=0, description="0.5 falls to zero once")], warmup: Warmup
) -> Schedule:
    """Warm up once, then swing `num_cycles` times.

    With p in [0, 1] the progress after warm-up: lr = peak * (1 + cos(2 pi * num_cycles * p)) / 2.

    Source: Nerogar/OneTrainer, modules/util/lr_scheduler_util.py, lr_lambda_cosine_with_restarts.
    """

    def curve(done: int, of: int, peak_lr: float) -> float:
        return peak_lr * 0.5 * (1.0 + math.cos(2.0 * math.pi * num_cycles * (done / of)))

    return after_warmup(total_steps, warmup, curve)
