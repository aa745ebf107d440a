"""Assignment, image by image: expected values worked out by hand from kohya's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorasweep.components.buckets import kohya
from lorasweep.core.records import Bucket
from lorasweep.data.assign import Assignment, assign, assign_without_upscale

KOHYA = kohya.resolutions(512 * 512, 256, 1024, 64)
SIDES = st.integers(min_value=1, max_value=6000)


def bucket(width: int, height: int) -> Bucket:
    return Bucket(width_px=width, height_px=height)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # square: scaled on the width, nothing cropped
        ((1000, 1000), Assignment(bucket(512, 512), (512, 512), (0, 0))),
        # 16:9 = 1.778: 640x384 is 1.667 (0.111 away); scaled by height, 1920 x 384/1080 = 682.67
        ((1920, 1080), Assignment(bucket(640, 384), (683, 384), (21, 0))),
        # 2:3 = 0.667: 448x576 is 0.778 (0.111 away), 384x640 is 0.6 (0.067 away); scaled by height, crop left
        ((1000, 1500), Assignment(bucket(384, 640), (427, 640), (21, 0))),
        # exactly a bucket: untouched
        ((320, 704), Assignment(bucket(320, 704), (320, 704), (0, 0))),
        # small images are enlarged
        ((100, 100), Assignment(bucket(512, 512), (512, 512), (0, 0))),
        # taller than every bucket: scaled by width, crop top
        ((100, 1000), Assignment(bucket(256, 1024), (256, 2560), (0, 768))),
    ],
)
def test_images_land_where_kohya_puts_them(size: tuple[int, int], expected: Assignment) -> None:
    assert assign(*size, KOHYA) == expected


def test_the_plain_ratio_decides_not_its_logarithm() -> None:
    # 3:4 between 1:2 and 1:1: in logarithms 1:1 is nearer (0.29 < 0.41), in plain ratios it is a tie.
    tall, square = bucket(256, 512), bucket(512, 512)

    assert assign(300, 400, (tall, square)).bucket == tall
    assert assign(300, 400, (square, tall)).bucket == square
    assert assign(400, 300, (bucket(512, 256), square)).bucket == square


def test_an_exact_size_wins_over_an_earlier_bucket_of_the_same_ratio() -> None:
    assert assign(256, 256, (bucket(512, 512), bucket(256, 256))).bucket == bucket(256, 256)


@given(SIDES, SIDES)
def test_the_resized_image_covers_the_bucket_and_the_crop_is_inside(width: int, height: int) -> None:
    place = assign(width, height, KOHYA)

    assert place.bucket in KOHYA
    right = place.crop_px[0] + place.bucket.width_px
    bottom = place.crop_px[1] + place.bucket.height_px
    assert 0 <= place.crop_px[0] and right <= place.resize_px[0]
    assert 0 <= place.crop_px[1] and bottom <= place.resize_px[1]
    # one side fits exactly: nothing is cropped in both directions
    assert place.resize_px[0] == place.bucket.width_px or place.resize_px[1] == place.bucket.height_px
    nearest = min(abs(b.width_px / b.height_px - width / height) for b in KOHYA)
    exact = (width, height) == (place.bucket.width_px, place.bucket.height_px)
    assert exact or abs(place.bucket.width_px / place.bucket.height_px - width / height) == nearest


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1000, 1000), Assignment(bucket(512, 512), (512, 512), (0, 0))),
        # below the area: not resized at all, sides floored to 64
        ((300, 500), Assignment(bucket(256, 448), (300, 500), (22, 26))),
        # above it: 682.67 x 384; 640/320 is 0.222 off, 640/384 is 0.111 off, so the height is kept
        ((1920, 1080), Assignment(bucket(640, 384), (683, 384), (21, 0))),
        # 475.9 x 550.9; 448/512 is 0.011 off 0.864, 384/512 is 0.114 off, so the width is kept, and 448/0.864 = 518.6
        ((520, 602), Assignment(bucket(448, 512), (448, 519), (0, 3))),
    ],
)
def test_without_upscale_buckets_are_made_on_demand(size: tuple[int, int], expected: Assignment) -> None:
    assert assign_without_upscale(*size, area_px=512 * 512, step_px=64) == expected


def test_without_upscale_an_image_below_one_step_cannot_be_used() -> None:
    assert assign_without_upscale(63, 500, area_px=512 * 512, step_px=64) is None


@given(SIDES, SIDES)
def test_without_upscale_nothing_is_enlarged(width: int, height: int) -> None:
    place = assign_without_upscale(width, height, area_px=512 * 512, step_px=64)

    if place is None:
        return
    assert place.bucket.width_px % 64 == place.bucket.height_px % 64 == 0
    assert place.resize_px[0] <= width and place.resize_px[1] <= height
    assert place.bucket.width_px <= place.resize_px[0] and place.bucket.height_px <= place.resize_px[1]
