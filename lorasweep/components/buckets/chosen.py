"""Buckets that somebody chose: an explicit list, four or five by common advice."""

from __future__ import annotations

from lorasweep.components.buckets.sides import checked, to_base
from lorasweep.core.records import BaseOptions, Bucket


def build(base: BaseOptions, *, sizes: tuple[tuple[int, int], ...], upscale: bool) -> tuple[Bucket, ...]:
    """Scale the list to the base, in the order given (an image between two equal ratios takes the first).

    Args:
        base: gives the scale (resolution / 512) and the step.
        sizes: (width, height) pairs, px at resolution 512.
        upscale: read when an image is assigned, not here.

    Raises:
        ConfigError: with every size that does not fit the step.
    """
    scaled = [(to_base(width, base), to_base(height, base)) for width, height in sizes]
    return checked(scaled, base, written=[list(size) for size in sizes])


def problems(*, sizes: tuple[tuple[int, int], ...], upscale: bool) -> list[tuple[str, str, str]]:
    """Find an empty list, or a size given twice."""
    if not sizes:
        return [("sizes", "must have at least one size", "override: buckets.sizes=[[512,512]]")]
    repeated = sorted({size for size in sizes if sizes.count(size) > 1})
    return [("sizes", f"must not repeat a size, got {list(size)} twice", "") for size in repeated]
