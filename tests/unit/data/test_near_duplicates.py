"""Near-duplicates: copies are found, different pictures of one subject are not."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from lorasweep.data.near_duplicates import are_near, groups, signature
from lorasweep.dollhouse.world import render
from lorasweep.dollhouse.world.dataset import sample_subject_spec
from lorasweep.dollhouse.world.subjects import SUBJECTS


@pytest.fixture(scope="module")
def dolls() -> list[Image.Image]:
    """Forty pictures of one character, most in its usual clothes and place: as alike as a dataset gets."""
    rng = np.random.default_rng(0)
    return [render(sample_subject_spec(rng, SUBJECTS["zkw"], confound=0.8), 64, 64) for _ in range(40)]


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def test_copies_of_a_picture_are_near(dolls: list[Image.Image]) -> None:
    for image in dolls[:10]:
        original = signature(image)
        copies = [
            jpeg(image, 50),
            image.resize((96, 96), Image.Resampling.LANCZOS),
            ImageEnhance.Brightness(image).enhance(1.02),
        ]
        assert [are_near(original, signature(copy)) for copy in copies] == [True, True, True]


def test_different_pictures_of_one_subject_are_not(dolls: list[Image.Image]) -> None:
    signatures = [signature(image) for image in dolls]

    near = [
        pair
        for pair in itertools.combinations(range(len(dolls)), 2)
        if are_near(*(signatures[i] for i in pair))
    ]

    assert near == []


def test_flat_images_are_told_apart_by_colour() -> None:
    red, blue, dark_red = (Image.new("RGB", (64, 64), c) for c in ((255, 0, 0), (0, 0, 255), (250, 4, 2)))

    assert not are_near(signature(red), signature(blue))
    assert are_near(signature(red), signature(dark_red))


def test_a_chain_of_near_images_is_one_group() -> None:
    shades = [
        signature(Image.new("RGB", (32, 32), (level, level, level))) for level in (100, 200, 110, 120, 0)
    ]

    assert not are_near(shades[0], shades[3])
    assert groups(shades) == [[0, 2, 3], [1], [4]]
