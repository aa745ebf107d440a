"""A straight line from the peak to zero, after an optional warm-up."""

from __future__ import annotations

from lorasweep.components.schedulers._warmup import Warmup, warmup_steps
from lorasweep.core.protocols import Schedule


def build(total_steps: int, *, warmup: Warmup) -> Schedule:
    """Warm up, then fall evenly: lr = peak * (total_steps - step) / (total_steps - warm-up).

    Source: diffusers, optimization.py, get_linear_schedule_with_warmup.
    """
    warm = warmup_steps(warmup, total_steps)

    def schedule(step: int, peak_lr: float) -> float:
        if step < warm:
            return peak_lr * step / warm
        return peak_lr * max(0, total_steps - step) / max(1, total_steps - warm)

    return schedule
