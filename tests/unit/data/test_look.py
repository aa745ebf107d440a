"""Bars around a picture, told from plain backgrounds; blur by numbers that a pencil gives."""

from __future__ import annotations

import numpy as np
import pytest

from lorasweep.data import look

NOISE = np.random.default_rng(0).uniform(60, 200, (80, 100)).astype(np.float32)


def framed(top: float, bottom: float, *, inside: np.ndarray = NOISE, of: tuple[int, int] = (10, 10)) -> np.ndarray:
    """Put a bar above a picture and one below it."""
    first, last = (np.full((lines, inside.shape[1]), level) for lines, level in zip(of, (top, bottom), strict=True))
    return np.concatenate([first, inside, last]).astype(np.float32)


def test_bars_on_opposite_sides_are_a_border() -> None:
    assert look.border(NOISE) == 0
    for level in (0, 255):
        assert look.border(framed(level, level)) == pytest.approx(20 / 100)
        assert look.border(framed(level, level).T) == pytest.approx(20 / 100), "pillars are bars too"
    assert look.border(framed(0, 0, of=(10, 30))) == pytest.approx(40 / 120)
    sky = np.linspace(200, 60, 80, dtype=np.float32)[:, None].repeat(100, 1)  # each of its lines is of one colour
    assert look.border(framed(255, 255, inside=sky)) == pytest.approx(20 / 100)


def test_what_is_no_border() -> None:
    assert look.border(framed(0, 255)) == 0, "of two colours"
    assert look.border(framed(0, 0, of=(10, 0))) == look.border(framed(130, 0, of=(10, 0))) == 0, "on one side alone"
    assert look.border(np.full((40, 40), 255, dtype=np.float32)) == 0, "nothing but one colour"
    studio = np.full((80, 100), 255, dtype=np.float32)
    studio[20:60, 30:70] = 90  # somebody before a plain background: most of no edge changes at once
    assert look.border(studio) == 0


def test_sharpness_is_the_contrast_between_neighbours() -> None:
    board = np.indices((8, 8)).sum(0).astype(np.float32) % 2 * 100
    # Each pixel differs by 100 from its four neighbours: the Laplacian is +400 or -400, the brightness 50 +- 50.
    assert look.sharpness(board) == pytest.approx(400**2 / 50**2)
    ramp = np.arange(8, dtype=np.float32).repeat(8).reshape(8, 8) * 10
    assert look.sharpness(ramp) == pytest.approx(0, abs=1e-9), "a slope has no edges"
    assert look.sharpness(np.full((8, 8), 7, dtype=np.float32)) == look.sharpness(ramp[:2]) == 1.0
