"""The peak all the way, after an optional linear warm-up."""

from __future__ import annotations

from lorasweep.components.schedulers._warmup import Warmup, warmup_steps
from lorasweep.core.protocols import Schedule


def build(total_steps: int, *, warmup: Warmup) -> Schedule:
    """Rise from 0 over the warm-up, then stay.

    Source: diffusers, optimization.py, get_constant_schedule_with_warmup.
    """
    warm = warmup_steps(warmup, total_steps)

    def schedule(step: int, peak_lr: float) -> float:
        return peak_lr * step / warm if step < warm else peak_lr

    return schedule
