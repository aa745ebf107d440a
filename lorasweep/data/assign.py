"""Choose the bucket of an image, the size it is scaled to and where it is cropped, by kohya's rules.

Source: kohya-ss/sd-scripts, library/train_util.py `BucketManager.select_bucket` and
`trim_and_resize_if_required`, at 48d368fa. Not a catalogue entry: every bucket set is assigned by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lorasweep.core.records import Bucket, Mask, PlannedImage
from lorasweep.data.folder import FoundImage
from lorasweep.data.images import ImageFacts


@dataclass(frozen=True)
class Assignment:
    """Where an image ends up."""

    bucket: Bucket  # the size it is trained at
    resize_px: tuple[int, int]  # (width, height) it is scaled to first; covers the bucket
    crop_px: tuple[int, int]  # (left, top) of the centred crop of the bucket's size


@dataclass(frozen=True)
class Row:
    """An image on its way into the plan: the file, what is in it, where it goes."""

    found: FoundImage
    facts: ImageFacts
    place: Assignment

    def planned(
        self,
        *,
        concept: str,
        caption: str,
        split: Literal["train", "held_out", "regularization"],
        repeats: int,
        mask: Mask | None = None,
    ) -> PlannedImage:
        """Plan the image."""
        return PlannedImage(
            file=str(self.found.path),
            sha256=self.facts.sha256,
            concept=concept,
            caption=caption,
            split=split,
            repeats=repeats,
            width_px=self.facts.width_px,
            height_px=self.facts.height_px,
            bucket=self.place.bucket,
            resize_px=self.place.resize_px,
            crop_px=self.place.crop_px,
            profile=self.facts.profile,
            mask=mask,
        )


def assign(width_px: int, height_px: int, buckets: Sequence[Bucket]) -> Assignment:
    """Choose among given buckets; images, by their upright size, that are smaller than the bucket are enlarged.

    A bucket of exactly the image's size wins, else the nearest |w/h - w/h|. That is the plain ratio, not its logarithm,
    so portrait and landscape are not treated alike: 2:3 is 1/3 from 1:1, and 3:2 is 1/2 from it. Ties go to the first
    bucket.
    """
    exact = Bucket(width_px=width_px, height_px=height_px)
    if exact in buckets:
        return Assignment(bucket=exact, resize_px=(width_px, height_px), crop_px=(0, 0))
    ratio = width_px / height_px
    bucket = min(buckets, key=lambda b: abs(b.width_px / b.height_px - ratio))
    if ratio > bucket.width_px / bucket.height_px:
        scale = bucket.height_px / height_px
    else:
        scale = bucket.width_px / width_px
    return _centred((_rounded(width_px * scale), _rounded(height_px * scale)), bucket)


def assign_without_upscale(width_px: int, height_px: int, *, area_px: int, step_px: int) -> Assignment | None:
    """Make a bucket for an image of that upright size, so that it is only ever made smaller.

    An image above the area (resolution squared) is scaled down to it along one side that is a whole number of steps:
    the side that keeps the ratio better. The bucket is what is left when both sides are floored to steps; None when one
    is shorter than a step: such an image cannot be trained on without enlarging it.
    """
    size = (width_px, height_px)
    if width_px * height_px > area_px:
        size = _shrunk(width_px / height_px, area_px, step_px)
    bucket = Bucket(width_px=_floored(size[0], step_px), height_px=_floored(size[1], step_px))
    return _centred(size, bucket) if min(bucket.width_px, bucket.height_px) > 0 else None


def _shrunk(ratio: float, area_px: int, step_px: int) -> tuple[int, int]:
    """Return the size of about `area_px` with one side in whole steps, whichever side then keeps the ratio better."""
    ideal_width = math.sqrt(area_px * ratio)
    width = _stepped(ideal_width, step_px)
    height = _stepped(area_px / ideal_width, step_px)
    by_width = _ratio_error(width, _stepped(width / ratio, step_px), ratio)
    by_height = _ratio_error(_stepped(height * ratio, step_px), height, ratio)
    if by_width < by_height:
        return width, _rounded(width / ratio)
    return _rounded(height * ratio), height


def _ratio_error(width_px: int, height_px: int, ratio: float) -> float:
    return abs(width_px / height_px - ratio) if height_px else math.inf


def _stepped(side_px: float, step_px: int) -> int:
    return _floored(_rounded(side_px), step_px)


def _floored(side_px: int, step_px: int) -> int:
    return side_px - side_px % step_px


def _rounded(side_px: float) -> int:
    return int(side_px + 0.5)


def _centred(resize_px: tuple[int, int], bucket: Bucket) -> Assignment:
    left, top = (resize_px[0] - bucket.width_px) // 2, (resize_px[1] - bucket.height_px) // 2
    return Assignment(bucket=bucket, resize_px=resize_px, crop_px=(left, top))
