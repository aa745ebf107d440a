"""Warm-up given in steps or as a share, for every schedule that has one."""

from __future__ import annotations

from collections.abc import Iterator


def warmup_steps(warmup: int | float, total_steps: int) -> int:
    """Steps of warm-up: an int is steps, a float below 1 is a share of `total_steps`, rounded."""
    return warmup if isinstance(warmup, int) else round(warmup * total_steps)


def warmup_problems(warmup: int | float) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a warm-up, as (key, rule and value, next step)."""
    if warmup < 0:
        yield ("warmup", f"must be >= 0, got {warmup}", "")
    elif isinstance(warmup, float) and warmup >= 1:
        yield ("warmup", f"must be whole steps or a share below 1, got {warmup}", f"steps: {int(warmup)}")
