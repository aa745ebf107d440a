"""The peak all the way, after an optional linear warm-up."""

from __future__ import annotations

from lorasweep.components.schedulers._warmup import Warmup, after_warmup
from lorasweep.core.protocols import Schedule


def build(total_steps: int, *, warmup: Warmup) -> Schedule:
    """Rise from 0 over the warm-up, then stay.

    Source: diffusers, optimization.py, get_constant_schedule_with_warmup.
    """
    return after_warmup(total_steps, warmup, lambda done, of, peak_lr: peak_lr)
