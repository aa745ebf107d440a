"""Warm-up given in steps or as a share, for every schedule that has one; and what leaves no room for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

from pydantic import Field

from lorasweep.core.protocols import Schedule

_RULE = "be whole steps or a share below 1"
Warmup = Annotated[int, Field(ge=0, title=_RULE)] | Annotated[float, Field(ge=0, lt=1, title=_RULE)]
_SHORTER = "a share of the training: scheduler.warmup=0.05"


def warmup_steps(warmup: int | float, total_steps: int) -> int:
    """Count the steps of warm-up: an int is steps, a float below 1 is a share of `total_steps`, rounded."""
    return warmup if isinstance(warmup, int) else round(warmup * total_steps)


def after_warmup(total_steps: int, warmup: int | float, curve: Callable[[int, int, float], float]) -> Schedule:
    """Rise evenly from 0, then follow a curve: the lr by the steps done since, of how many, and the peak."""
    warm = warmup_steps(warmup, total_steps)
    of = max(1, total_steps - warm)

    def schedule(step: int, peak_lr: float) -> float:
        return peak_lr * step / warm if step < warm else curve(step - warm, of, peak_lr)

    return schedule


def misfits(
    total_steps: int, *, warmup: int | float = 0, num_cycles: float = 1, **_: object
) -> Iterator[tuple[str, str, str]]:
    """List what has no room in a training, as (key, rule and value, next step).

    A warm-up that never reaches its peak, and cycles that have no step of their own.
    """
    warm = warmup_steps(warmup, total_steps)
    if warm >= total_steps:
        yield ("warmup", f"must be shorter than the training of {total_steps} steps, got {warm}", _SHORTER)
    elif num_cycles > total_steps - warm:
        rule = f"must be at most {total_steps - warm}, one for each step after the warm-up"
        yield ("num_cycles", f"{rule}, got {num_cycles:g}", "a handful is usual: scheduler.num_cycles=3")
