"""Near-duplicates: copies are found, different pictures of one subject are not."""

from __future__ import annotations

import io
import itertools
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from lorasweep.data.near_duplicates import groups, signature
from lorasweep.dollhouse.world import render
from lorasweep.dollhouse.world.dataset import sample_subject_spec
from lorasweep.dollhouse.world.subjects import SUBJECTS


@pytest.fixture(scope="module")
def dolls() -> list[Image.Image]:
    """Forty pictures of one character, most in its usual clothes and place: as alike as a dataset gets."""
    rng = np.random.default_rng(0)
    return [render(sample_subject_spec(rng, SUBJECTS["zkw"], confound=0.8), 64, 64) for _ in range(40)]


def are_near(first: str, second: str) -> bool:
    """The rule, on its own: at most 24 bits of the gradients, and 12 levels of any colour, are different."""
    one, two = bytes.fromhex(first), bytes.fromhex(second)
    bits = sum((a ^ b).bit_count() for a, b in zip(one[:32], two[:32], strict=True))
    return bits <= 24 and all(abs(a - b) <= 12 for a, b in zip(one[32:], two[32:], strict=True))


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

    near = [pair for pair in itertools.combinations(range(len(dolls)), 2) if are_near(*(signatures[i] for i in pair))]

    assert near == []


def test_a_gradient_is_one_bit_for_every_step_to_the_right() -> None:
    """As dHash is published: a bit is set where a pixel is brighter than the one on its right."""
    ramp = Image.fromarray(np.arange(255, 0, -15, dtype=np.uint8)[None].repeat(16, 0))  # 17 x 16: no resizing
    falling, rising = (signature(image.convert("RGB"))[:64] for image in (ramp, ramp.transpose(0)))
    assert (falling, rising) == ("f" * 64, "0" * 64)


def test_flat_images_are_told_apart_by_colour() -> None:
    red, blue, dark_red = (Image.new("RGB", (64, 64), c) for c in ((255, 0, 0), (0, 0, 255), (250, 4, 2)))

    assert not are_near(signature(red), signature(blue))
    assert are_near(signature(red), signature(dark_red))


def test_a_chain_of_near_images_is_one_group() -> None:
    shades = [signature(Image.new("RGB", (32, 32), (level, level, level))) for level in (100, 200, 110, 120, 0)]

    assert not are_near(shades[0], shades[3])
    assert groups(shades) == [[0, 2, 3], [1], [4]]


def by_definition(signatures: list[str]) -> list[list[int]]:
    """Every pair compared."""
    found: list[list[int]] = []
    for index, current in enumerate(signatures):
        near = [group for group in found if any(are_near(current, signatures[other]) for other in group)]
        found = [group for group in found if group not in near]
        found.append(sorted([*itertools.chain.from_iterable(near), index]))
    return sorted(found)


def made(kind: str, count: int, rng: np.random.Generator) -> list[str]:
    """Signatures around the limits of 24 bits and 12 levels, in ways that defeat a shortcut."""

    def flipped(gradient: bytes, bits: int) -> bytes:
        mask = sum(1 << int(bit) for bit in rng.choice(256, bits, replace=False))
        return (int.from_bytes(gradient, "big") ^ mask).to_bytes(32, "big")

    def moved(colors: bytes, levels: int) -> bytes:
        moves = rng.integers(-levels, levels + 1, 48)
        return np.clip(np.frombuffer(colors, dtype=np.uint8) + moves, 0, 255).astype(np.uint8).tobytes()

    some = [(rng.bytes(32), rng.bytes(48)) for _ in range(max(1, count // 8))]
    found = []
    for _ in range(count):
        gradient, colors = some[rng.integers(len(some))]
        if kind == "copies":
            gradient, colors = flipped(gradient, int(rng.integers(30))), moved(colors, int(rng.integers(15)))
        elif kind == "one gradient":
            gradient, colors = some[0][0], moved(colors, 13)
        elif kind == "one colour":
            gradient, colors = flipped(gradient, int(rng.integers(22, 27))), some[0][1]
        elif kind == "flat":
            gradient, colors = flipped(bytes(32), int(rng.integers(20))), bytes([int(rng.integers(256))]) * 48
        elif kind == "all near":
            gradient, colors = flipped(bytes(32), 8), bytes(48)
        found.append((gradient + colors).hex())
    return found


@pytest.mark.parametrize("kind", ["copies", "one gradient", "one colour", "flat", "all near"])
def test_the_groups_are_those_of_comparing_every_pair(kind: str) -> None:
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 60, 120):
        signatures = made(kind, count, rng)
        assert groups(signatures) == by_definition(signatures)


@pytest.mark.parametrize("kind", ["random", "one gradient", "flat", "all near"])
def test_ten_thousand_images_are_grouped_in_seconds_and_in_little_memory(kind: str) -> None:
    signatures = made(kind, 10_000, np.random.default_rng(0))
    begun = time.process_time()
    tracemalloc.start()
    try:
        groups(signatures)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert time.process_time() - begun < 15 and peak < 100e6  # some 1 s; comparing every pair takes minutes
