"""A straight line from the peak to zero, after an optional warm-up."""

from __future__ import annotations

from lorasweep.components.schedulers._warmup import Warmup, after_warmup
from lorasweep.core.protocols import Schedule


def build(total_steps: int, *, warmup: Warmup) -> Schedule:
    """Warm up, then fall evenly: lr = peak * (total_steps - step) / (total_steps - warm-up).

    Source: diffusers, optimization.py, get_linear_schedule_with_warmup.
    """
    return after_warmup(total_steps, warmup, lambda done, of, peak_lr: peak_lr * max(0, of - done) / of)
