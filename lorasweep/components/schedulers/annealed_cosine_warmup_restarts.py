"""Cosine waves with a warm-up each, every peak lower than the last: "annealed cosine with warm-up restarts".

The maxima are per param group: each group anneals from its own lr, and the floor does not lift a group whose
lr is below it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from lorasweep.components.schedulers import _warmup
from lorasweep.components.schedulers._warmup import Warmup, warmup_steps
from lorasweep.core.protocols import Schedule
from lorasweep.core.ranges import Count, NotNegative, Positive


@dataclass(frozen=True)
class _Cycle:
    start: int  # first step
    length: int  # steps, warm-up included
    warm: int  # steps of warm-up, < length


def build(
    total_steps: int,
    *,
    num_cycles: Count,
    warmup: Warmup,
    cycle_mult: Positive,
    gamma: Annotated[float, Field(gt=0, le=1, description="1 keeps every peak at the full lr")],
    min_lr: NotNegative,
) -> Schedule:
    """Warm up and anneal, cycle after cycle.

    In cycle c, at its step s, with length L and w steps of warm-up, peak_c = peak * gamma^c and floor f:
    s < w gives f + (peak_c - f) s / w, later steps f + (peak_c - f)(1 + cos(pi (s - w) / (L - w))) / 2.
    The first L is total_steps // num_cycles, the next int((L - w) * cycle_mult) + w.

    Source: derrian-distro/LoRA_Easy_Training_scripts_Backend, CustomOptimizers.py, class
    CosineAnnealingWarmupRestarts (after katsura-jp/pytorch-cosine-annealing-with-warmup). We depart in one
    thing: the few steps that total_steps // num_cycles leaves over stay at the floor instead of starting one
    more cycle at its peak.
    """
    warm = _warm(total_steps, num_cycles, warmup)
    timeline = _lay_out(total_steps, num_cycles=num_cycles, warm=warm, cycle_mult=cycle_mult)
    starts = [cycle.start for cycle in timeline]

    def schedule(step: int, peak_lr: float) -> float:
        floor = min_lr if peak_lr > min_lr else 0.0
        index = bisect.bisect_right(starts, step) - 1
        cycle, s = timeline[index], step - starts[index]
        if s >= cycle.length:
            return floor
        span = max(0.0, peak_lr * gamma**index - floor)
        if s < cycle.warm:
            return floor + span * s / cycle.warm
        progress = (s - cycle.warm) / (cycle.length - cycle.warm)
        return floor + span * 0.5 * (1.0 + math.cos(math.pi * progress))

    return schedule


def misfits(total_steps: int, *, num_cycles: int, warmup: int | float, **_: object) -> Iterator[tuple[str, str, str]]:
    """List what has no room in a training: cycles without a step, and a warm-up as long as its cycle."""
    if num_cycles > total_steps:
        yield from _warmup.misfits(total_steps, num_cycles=num_cycles)
        return
    warm, length = _warm(total_steps, num_cycles, warmup), total_steps // num_cycles
    if warm >= length:
        hint = "a share of the training: scheduler.warmup=0.05"
        yield ("warmup", f"must be shorter than a cycle of {length} steps, got {warm}", hint)


def _warm(total_steps: int, num_cycles: int, warmup: int | float) -> int:
    """Return the steps of warm-up in every cycle."""
    return warmup if isinstance(warmup, int) else warmup_steps(warmup, total_steps) // num_cycles


def _lay_out(total_steps: int, *, num_cycles: int, warm: int, cycle_mult: float) -> list[_Cycle]:
    """Return the cycles that begin before `total_steps`; every one has at least one step after its warm-up."""
    timeline: list[_Cycle] = []
    start, length = 0, max(1, total_steps // num_cycles)
    while start < total_steps:
        if len(timeline) >= num_cycles and total_steps - start < num_cycles:
            break  # only what the division left over
        timeline.append(_Cycle(start, length, min(warm, length - 1)))
        start += length
        length = max(warm + 1, int((length - warm) * cycle_mult) + warm)
    return timeline
