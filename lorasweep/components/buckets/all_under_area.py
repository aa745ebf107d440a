"""Every size whose area fits: all pairs of sides in steps, small ones included.

For resolution 512, sides 256 to 1024 and step 64 these are 55 sizes of 47 different aspect ratios, the
number of buckets that people quote when they warn of too many.
"""

from __future__ import annotations

import math

from lorasweep.components.buckets._sides import WrittenSide, to_base
from lorasweep.components.buckets.kohya import problems as problems
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.records import BaseOptions, Bucket


def build(base: BaseOptions, *, min_side: WrittenSide, max_side: WrittenSide, upscale: bool) -> tuple[Bucket, ...]:
    """Generate the buckets for a base, sorted by width, then height.

    Raises:
        ConfigError: no size fits.
    """
    step = base.bucket_step
    low = max(step, math.floor(to_base(min_side, base) / step) * step)
    high = math.ceil(to_base(max_side, base) / step) * step
    sides = range(low, high + 1, step)
    sizes = [(width, height) for width in sides for height in sides if width * height <= base.resolution**2]
    if not sizes:
        message = f"must fit the resolution ({base.resolution} px), got sides from {low} px after scaling"
        raise ConfigError(Problem("buckets.min_side", message, "override: buckets.min_side=256"))
    return tuple(Bucket(width_px=width, height_px=height) for width, height in sizes)
