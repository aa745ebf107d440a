"""Cosine waves that fall from the peak to zero, one after another: kohya's `cosine_with_restarts`.

One warm-up at the very beginning; every wave starts at the full peak. Other trainers use this name for other
curves: OneTrainer for a smooth wave, ai-toolkit for a single cosine.
"""

from __future__ import annotations

import math

from lorasweep.components.schedulers._warmup import Warmup, after_warmup
from lorasweep.core.protocols import Schedule
from lorasweep.core.ranges import Count


def build(total_steps: int, *, num_cycles: Count, warmup: Warmup) -> Schedule:
    """Warm up once, then fall to zero `num_cycles` times.

    With p in [0, 1] the progress after warm-up: lr = peak * (1 + cos(pi * (num_cycles * p mod 1))) / 2.

    Source: diffusers, optimization.py, get_cosine_with_hard_restarts_schedule_with_warmup; kohya uses it.
    """

    def curve(done: int, of: int, peak_lr: float) -> float:
        if done >= of:
            return 0.0
        return peak_lr * 0.5 * (1.0 + math.cos(math.pi * ((num_cycles * (done / of)) % 1.0)))

    return after_warmup(total_steps, warmup, curve)
