"""Bring sides written for Stable Diffusion at 512 x 512 to a base's own scale, and check them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.records import BaseOptions, Bucket

WRITTEN_FOR_PX = 512  # conf/buckets/ is written for this resolution
WrittenSide = Annotated[int, Field(ge=1, le=8192)]  # px at that resolution


def to_base(side_px: int, base: BaseOptions) -> float:
    """Scale a side from resolution 512 to the base's resolution; may be fractional."""
    return side_px * base.resolution / WRITTEN_FOR_PX


def checked(
    sizes: Iterable[tuple[float, float]], base: BaseOptions, *, written: Iterable[object]
) -> tuple[Bucket, ...]:
    """Turn (width, height) pairs in px at the base's scale into buckets; `written` is how the person wrote each.

    Raises:
        ConfigError: with every side that is smaller than the base's step, or not a multiple of it.
    """
    step = base.bucket_step
    buckets, problems = [], []
    for (width, height), text in zip(sizes, written, strict=True):
        wrong = ""
        if min(width, height) < step:
            wrong = f"is smaller than base.bucket_step ({step})"
        elif width % step or height % step:
            wrong = f"must have sides that are multiples of base.bucket_step ({step})"
        if wrong:
            scaled = f"{width:g} x {height:g} px for `{base.name}` at resolution {base.resolution}"
            problems.append(Problem("buckets.sizes", f"{text} {wrong}: it is {scaled}", "e.g. [512,512] or [448,576]"))
        else:
            buckets.append(Bucket(width_px=int(width), height_px=int(height)))
    if problems:
        raise ConfigError(problems, subject="the buckets")
    return tuple(buckets)
