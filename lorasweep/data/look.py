"""Measure what is wrong with how a picture was made: blur, and borders around it.

Takes the brightness of upright images, gives back numbers. Knows nothing about files.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_SIDE_PX = 512  # pictures are looked at in at most this size, which is what training sees
_FLAT = 3.0  # levels of 255: a line that varies less is one colour
_STEP = 12.0  # levels: a border ends where so much changes
_ALL_ALONG = 0.6  # of a line's pixels that change where a border ends

Levels = npt.NDArray[np.float32]


def levels(image: Image.Image) -> Levels:
    """Return brightness of an image, (height, width), 0 to 255, its longer side about 512 px or less."""
    factor = max(1, round(max(image.size) / _SIDE_PX))
    return np.asarray(image.convert("L").reduce(factor), dtype=np.float32)


def sharpness(gray: Levels) -> float:
    """Tell how much of a picture's contrast lies between neighbouring pixels, >= 0; 1 for a picture of one colour.

    The variance of the Laplacian over the variance of the brightness; noise has 20, a blurred photo < 0.002.
    """
    contrast = float(gray.var())
    if contrast < 1 or min(gray.shape) < 3:
        return 1.0
    return float(laplacian(gray).var()) / contrast


def laplacian(gray: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return how far each pixel is from its 4 neighbours, added up, (height - 2, width - 2)."""
    return gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:] - 4 * gray[1:-1, 1:-1]


def border(gray: Levels) -> float:
    """Share of the height or width that bars of one colour on opposite sides take, [0, 1].

    A plain background is no bar: a bar ends all along its edge at once.
    """
    return max(_bars(gray), _bars(gray.T))


def _bars(lines: Levels) -> float:
    first, last = _bar(lines), _bar(lines[::-1])
    is_framed = first and last and abs(float(lines[0].mean() - lines[-1].mean())) < _STEP
    return (first + last) / len(lines) if is_framed else 0.0


def _bar(lines: Levels) -> int:
    """Count the lines of the bar that a picture begins with."""
    if lines[0].std() >= _FLAT:
        return 0
    flat = (lines.std(axis=1) < _FLAT) & (abs(lines.mean(axis=1) - lines[0].mean()) < _FLAT)
    if flat.all():
        return 0
    end = int(flat.argmin())
    inside = lines[min(end + 1, len(lines) - 1)]  # one line on: scaling blurs the edge
    changes = abs(inside - lines[0].mean()) > _STEP
    return end if changes.mean() > _ALL_ALONG else 0
