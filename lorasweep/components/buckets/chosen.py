"""Buckets that somebody chose: an explicit list, four or five by common advice."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lorasweep.components.buckets._sides import WrittenSide, checked, to_base
from lorasweep.core.ranges import apart
from lorasweep.core.records import BaseOptions, Bucket

_SOME = Field(min_length=1, title="have at least one size", description="override: buckets.sizes=[[512,512]]")
Sizes = Annotated[tuple[tuple[WrittenSide, WrittenSide], ...], _SOME, apart("size")]


def build(base: BaseOptions, *, sizes: Sizes, upscale: bool) -> tuple[Bucket, ...]:
    """Scale the list to the base, in the order given (an image between two equal ratios takes the first).

    Raises:
        ConfigError: with every size that does not fit the step.
    """
    scaled = [(to_base(width, base), to_base(height, base)) for width, height in sizes]
    return checked(scaled, base, written=[list(size) for size in sizes])
