"""One cosine from the peak to zero, after an optional warm-up: `cosine_with_restarts` with one cycle."""

from __future__ import annotations

from lorasweep.components.schedulers import cosine_with_restarts
from lorasweep.components.schedulers._warmup import Warmup
from lorasweep.core.protocols import Schedule


def build(total_steps: int, *, warmup: Warmup) -> Schedule:
    """Warm up, then fall to zero once.

    Source: diffusers, optimization.py, get_cosine_schedule_with_warmup, half a wave.
    """
    return cosine_with_restarts.build(total_steps, num_cycles=1, warmup=warmup)
