"""Expected exposures of tags against what the drawn captions really show."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from lorasweep.core.records import Bucket, CaptionOptions, PlannedImage
from lorasweep.data import captions
from lorasweep.plan.reach import tag_exposures

LONG = ", ".join(["zkw", "1girl", "long hair", *(f"some longer tag {number} here" for number in range(20))])


@pytest.mark.parametrize(
    "options",
    [
        CaptionOptions(),
        CaptionOptions(tag_dropout=0.1, keep_tokens=20),
        CaptionOptions(shuffle=True),
        CaptionOptions(shuffle=True, keep_tokens=2, dropout=0.1, tag_dropout=0.2),
    ],
)
def test_tags_count_as_often_as_they_are_read(options: CaptionOptions) -> None:
    image = PlannedImage(
        file="a.png",
        sha256="",
        concept="",
        caption=LONG,
        split="train",
        repeats=1,
        width_px=64,
        height_px=64,
        bucket=Bucket(width_px=64, height_px=64),
        resize_px=(64, 64),
        crop_px=(0, 0),
    )
    rng, seen = random.Random(0), Counter[str]()
    for _ in range(1000):
        drawn = captions.vary(LONG, options, rng)
        seen.update(captions.tags(drawn, options))

    expected = tag_exposures([image], [1000], options)

    assert expected.keys() == set(captions.tags(LONG, options))
    assert all(abs(times - seen[tag]) < 65 for tag, times in expected.items()), (expected, seen)
