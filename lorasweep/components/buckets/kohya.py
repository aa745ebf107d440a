"""The buckets that kohya's trainers make: per side length, the longest other side that stays under the area.

Source: kohya-ss/sd-scripts, library/model_util.py `make_bucket_resolutions` and library/train_util.py
`adjust_min_max_bucket_reso_by_steps`, at 48d368fa. Departure: bounds are written for resolution 512 and
scale with the base, and the step is the base's.
"""

from __future__ import annotations

import math

from lorasweep.components.buckets._sides import WrittenSide, to_base
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.records import BaseOptions, Bucket


def build(base: BaseOptions, *, min_side: WrittenSide, max_side: WrittenSide, upscale: bool) -> tuple[Bucket, ...]:
    """Generate the buckets for a base, sorted by width, then height.

    Raises:
        ConfigError: the bounds leave the resolution out.
    """
    step = base.bucket_step
    low = math.floor(to_base(min_side, base) / step) * step
    high = math.ceil(to_base(max_side, base) / step) * step
    if not step <= low <= base.resolution <= high:
        message = f"must enclose the resolution ({base.resolution} px), got {low} to {high} px after scaling"
        raise ConfigError(Problem("buckets", message, "override: buckets.min_side=256 buckets.max_side=1024"))
    return resolutions(base.resolution**2, low, high, step)


def resolutions(area_px: int, min_px: int, max_px: int, step_px: int) -> tuple[Bucket, ...]:
    """Generate as kohya does, with sides that are multiples of the step: 17 buckets for 512 x 512, 256 to 1024, 64."""
    square = math.isqrt(area_px) // step_px * step_px
    sizes = {(square, square)}
    for width in range(min_px, max_px + 1, step_px):
        height = min(max_px, area_px // width // step_px * step_px)
        if height >= min_px:
            sizes |= {(width, height), (height, width)}
    return tuple(Bucket(width_px=width, height_px=height) for width, height in sorted(sizes))


def problems(*, min_side: int, max_side: int) -> list[tuple[str, str, str]]:
    """Name bounds that are not in order."""
    if max_side >= min_side:
        return []
    return [("max_side", f"must be >= min_side ({min_side}), got {max_side}", "override: buckets.max_side=1024")]
