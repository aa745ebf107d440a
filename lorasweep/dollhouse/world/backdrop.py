"""The six backgrounds, drawn behind a doll at any size; a seed scatters clouds, trees, windows, stars.

Coordinates are canvas pixels; sizes follow `unit_px`, the side of a square canvas of the same area, so that
a wide picture shows more scenery rather than bigger scenery. Knows nothing about dolls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from lorasweep.dollhouse.world.attributes import RGB
from lorasweep.dollhouse.world.pen import mix, shade

HORIZON: Final[float] = 0.70
PLAIN_COLORS: Final[tuple[RGB, ...]] = ((226, 220, 208), (208, 218, 228), (228, 210, 218), (212, 224, 206))


def _gradient(canvas: Image.Image, top: RGB, bottom: RGB, until: float = 1.0) -> None:
    """Fill the upper `until` of the canvas with a vertical gradient."""
    height_px = max(1, round(canvas.height * until))
    ramp = np.linspace(0.0, 1.0, height_px, dtype=np.float32)[:, None]
    column = np.asarray(top, np.float32) * (1.0 - ramp) + np.asarray(bottom, np.float32) * ramp
    strip = Image.fromarray(np.round(column).astype(np.uint8)[:, None, :])
    canvas.paste(strip.resize((canvas.width, height_px), Image.Resampling.NEAREST), (0, 0))


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, fill: RGB, squash: float = 1.0) -> None:
    draw.ellipse((x - radius, y - radius * squash, x + radius, y + radius * squash), fill=fill)


def _beach(canvas: Image.Image, unit_px: float, rng: np.random.Generator) -> None:
    width, height = canvas.size
    _gradient(canvas, (96, 190, 250), (190, 232, 252), until=0.5)
    draw = ImageDraw.Draw(canvas)
    _disc(
        draw,
        width * rng.uniform(0.05, 0.95),
        height * rng.uniform(0.08, 0.16),
        unit_px * 0.08,
        (255, 240, 150),
    )
    for _ in range(2):
        x, y = width * rng.uniform(0.0, 1.0), height * rng.uniform(0.1, 0.35)
        for step in (-1, 0, 1):
            _disc(draw, x + step * unit_px * 0.06, y, unit_px * (0.06 - 0.015 * abs(step)), (250, 252, 255), 0.7)
    sea_top, sand_top = height * 0.48, height * (HORIZON + rng.uniform(-0.03, 0.03))
    draw.rectangle((0, sea_top, width, sand_top), fill=(22, 128, 205))
    for _ in range(5):
        x, y = width * rng.uniform(0.0, 1.0), rng.uniform(sea_top + unit_px * 0.03, sand_top - unit_px * 0.03)
        draw.line((x, y, x + unit_px * 0.12, y), fill=(120, 200, 240), width=max(1, round(unit_px * 0.014)))
    draw.rectangle((0, sand_top, width, height), fill=(240, 214, 150))
    draw.rectangle((0, sand_top, width, sand_top + unit_px * 0.03), fill=(250, 248, 240))


def _forest(canvas: Image.Image, unit_px: float, rng: np.random.Generator) -> None:
    width, height = canvas.size
    _gradient(canvas, (176, 222, 190), (120, 190, 140))
    draw = ImageDraw.Draw(canvas)
    ground = height * (HORIZON + 0.04)
    draw.rectangle((0, ground, width, height), fill=(62, 118, 52))
    spacing = unit_px * 0.27
    x = -spacing * rng.uniform(0.0, 1.0)
    while x < width + spacing:
        base, tall, half = (
            ground + unit_px * rng.uniform(0.0, 0.05),
            unit_px * rng.uniform(0.5, 0.68),
            unit_px * 0.16,
        )
        draw.rectangle((x - half * 0.18, base - tall * 0.2, x + half * 0.18, base), fill=(104, 70, 42))
        tone = mix((24, 92, 48), (40, 116, 60), float(rng.uniform(0.0, 1.0)))
        for layer in range(3):
            top, foot = base - tall * (1.0 - 0.22 * layer), base - tall * (0.62 - 0.24 * layer)
            reach = half * (0.62 + 0.19 * layer)
            draw.polygon([(x, top), (x - reach, foot), (x + reach, foot)], fill=shade(tone, 0.06 * (2 - layer)))
        x += spacing * rng.uniform(0.8, 1.2)


def _city(canvas: Image.Image, unit_px: float, rng: np.random.Generator) -> None:
    width, height = canvas.size
    _gradient(canvas, (196, 196, 216), (236, 220, 214))
    draw = ImageDraw.Draw(canvas)
    street = height * (HORIZON + 0.06)
    pane, gap = unit_px * 0.045, unit_px * 0.085
    x = -unit_px * rng.uniform(0.0, 0.2)
    while x < width:
        wide, tall = unit_px * rng.uniform(0.2, 0.3), unit_px * rng.uniform(0.35, 0.66)
        tone = mix((104, 108, 132), (140, 134, 150), float(rng.uniform(0.0, 1.0)))
        draw.rectangle((x, street - tall, x + wide, street), fill=tone)
        for row in range(int((tall - gap * 0.5) / gap)):
            for column in range(int((wide - gap * 0.3) / gap)):
                lit = rng.random() < 0.65
                left, top = x + gap * (column + 0.35), street - tall + gap * (row + 0.5)
                color = (255, 224, 110) if lit else shade(tone, -0.25)
                draw.rectangle((left, top, left + pane, top + pane), fill=color)
        x += wide + unit_px * 0.03
    draw.rectangle((0, street, width, height), fill=(84, 84, 92))
    draw.rectangle((0, street, width, street + unit_px * 0.04), fill=(158, 156, 156))


def _night_sky(canvas: Image.Image, unit_px: float, rng: np.random.Generator) -> None:
    width, height = canvas.size
    _gradient(canvas, (8, 10, 44), (44, 38, 110))
    draw = ImageDraw.Draw(canvas)
    for _ in range(round(16 * width * height / unit_px**2)):
        glow = shade((255, 250, 210), -float(rng.uniform(0.0, 0.3)))
        _disc(
            draw,
            width * rng.uniform(0, 1),
            height * rng.uniform(0, 0.72),
            unit_px * rng.uniform(0.009, 0.017),
            glow,
        )
    x, y = width * rng.uniform(0.06, 0.94), height * rng.uniform(0.08, 0.16)
    _disc(draw, x, y, unit_px * 0.075, (250, 240, 190))
    _disc(draw, x + unit_px * 0.03, y - unit_px * 0.015, unit_px * 0.06, (14, 14, 54))
    crest = height * (HORIZON + 0.1)
    _disc(draw, width * rng.uniform(0.2, 0.8), crest + unit_px * 0.9, unit_px * 1.0, (22, 26, 56), 0.9)
    draw.rectangle((0, crest + unit_px * 0.1, width, height), fill=(22, 26, 56))


def _snow(canvas: Image.Image, unit_px: float, rng: np.random.Generator) -> None:
    width, height = canvas.size
    _gradient(canvas, (150, 178, 214), (204, 218, 236))
    draw = ImageDraw.Draw(canvas)
    slope = height * HORIZON
    for _ in range(3):
        x, tall = width * rng.uniform(0, 1), unit_px * rng.uniform(0.2, 0.3)
        foot = slope + unit_px * 0.03
        draw.polygon([(x, foot - tall), (x - tall * 0.35, foot), (x + tall * 0.35, foot)], fill=(98, 134, 140))
        draw.polygon(
            [(x, foot - tall), (x - tall * 0.16, foot - tall * 0.5), (x + tall * 0.16, foot - tall * 0.5)],
            fill=(244, 248, 252),
        )
    draw.rectangle((0, slope + unit_px * 0.06, width, height), fill=(240, 244, 250))
    for center in np.linspace(0.0, width, 4) + unit_px * rng.uniform(-0.2, 0.2):
        _disc(draw, float(center), slope + unit_px * 0.16, unit_px * 0.32, (240, 244, 250), 0.5)
    for _ in range(round(22 * width * height / unit_px**2)):
        _disc(draw, width * rng.uniform(0, 1), height * rng.uniform(0, 0.9), unit_px * 0.017, (255, 255, 255))


def _simple_background(canvas: Image.Image, unit_px: float, rng: np.random.Generator) -> None:
    width, height = canvas.size
    color = PLAIN_COLORS[int(rng.integers(len(PLAIN_COLORS)))]
    _gradient(canvas, shade(color, 0.25), shade(color, -0.06))
    tilt = unit_px * rng.uniform(-0.1, 0.1)
    band = [(0, height * 0.86), (width, height * 0.86 + tilt), (width, height), (0, height)]
    ImageDraw.Draw(canvas).polygon(band, fill=shade(color, -0.12))


_PAINTERS: Final[dict[str, Callable[[Image.Image, float, np.random.Generator], None]]] = {
    "beach": _beach,
    "forest": _forest,
    "city": _city,
    "night sky": _night_sky,
    "snow": _snow,
    "simple background": _simple_background,
}


def paint_backdrop(canvas: Image.Image, background: str, seed: int) -> None:
    """Cover an RGB canvas with a background, a value of `ATTRIBUTES["background"]`; `seed` decides the texture."""
    unit_px = float(np.sqrt(canvas.width * canvas.height))
    _PAINTERS[background](canvas, unit_px, np.random.default_rng(seed))
