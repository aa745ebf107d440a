"""From a spec to an image of any size: where the figure stands, what is drawn over what, and the light.

Takes a `Spec` and a size, returns an RGB Pillow image; the same arguments always give the same pixels.
Knows nothing about tags or files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from lorasweep.dollhouse.world import body, head
from lorasweep.dollhouse.world.backdrop import paint_backdrop
from lorasweep.dollhouse.world.pen import Pen
from lorasweep.dollhouse.world.spec import Spec

SUPERSAMPLING: Final[int] = 4
FIGURE_SHARE: Final[float] = 0.86
"""Height of a figure of middle scale, in sides of the square of the picture's area."""
HEADROOM: Final[float] = 0.15
"""Room above the crown for hats and marks, in figure heights."""
WAIST_UP: Final[float] = 0.76
"""The part of the figure that must be inside even a very wide picture, in figure heights from the crown."""


@dataclass(frozen=True, kw_only=True)
class Stance:
    """Where a figure stands: canvas pixels of its axis, crown and height."""

    axis_px: float
    crown_px: float
    figure_px: float


def place_figure(spec: Spec, width_px: float, height_px: float) -> Stance:
    """Place a figure by `x`, `y` and `scale`; heads keep their size in every shape, wide pictures cut the legs."""
    unit_px = float(np.sqrt(width_px * height_px))
    figure_px = FIGURE_SHARE * unit_px * (1.0 + 0.08 * spec.scale)
    figure_px = min(figure_px, height_px / (HEADROOM + WAIST_UP), width_px / 0.70)
    slack_x_px = max(0.03 * unit_px, 0.55 * (width_px - 0.78 * figure_px) / 2)
    spare_px = height_px - figure_px * (1.0 + HEADROOM)
    # With room to spare the soles stay near the bottom; without, the crown stays and the legs leave.
    crown_px = HEADROOM * figure_px + (spare_px * (0.62 + 0.3 * spec.y) if spare_px > 0 else 0.0)
    crown_px += 0.015 * unit_px * spec.y
    return Stance(axis_px=width_px / 2 + slack_x_px * spec.x, crown_px=crown_px, figure_px=figure_px)


def _draw_figure(pen: Pen, spec: Spec) -> None:
    """Draw the doll back to front."""
    head.draw_back_hair(pen, spec)
    body.draw_legs(pen, spec)
    body.draw_outfit(pen, spec)
    head.draw_face(pen, spec)
    head.draw_front_hair(pen, spec)
    if spec.accessory == "scarf":
        body.draw_scarf(pen)
    if spec.accessory == "glasses":
        head.draw_glasses(pen)
    if spec.accessory == "hat":
        head.draw_hat(pen)
    head.draw_marks(pen, spec)


def _light(image: Image.Image, light: float) -> Image.Image:
    """Make a picture brighter and warmer (light > 0) or darker and cooler (light < 0)."""
    pixels_HWC = np.asarray(image, dtype=np.float32)
    warmth_C = np.asarray([1.0 + 0.03 * light, 1.0, 1.0 - 0.03 * light], np.float32)
    lit_HWC = np.round(pixels_HWC * (warmth_C * np.float32(0.97 + 0.10 * light)))
    return Image.fromarray(np.clip(lit_HWC, 0, 255).astype(np.uint8))


def render(spec: Spec, width_px: int, height_px: int) -> Image.Image:
    """Draw a spec as an RGB image, bit-identical for identical arguments; raises ValueError below 16 px a side."""
    if min(width_px, height_px) < 16:
        raise ValueError(f"a picture must be at least 16 px a side, got {width_px} x {height_px}")
    canvas = Image.new("RGB", (width_px * SUPERSAMPLING, height_px * SUPERSAMPLING))
    paint_backdrop(canvas, spec.background, spec.seed)
    stance = place_figure(spec, *canvas.size)
    pen = Pen(
        ImageDraw.Draw(canvas),
        axis_px=stance.axis_px,
        crown_px=stance.crown_px,
        figure_px=stance.figure_px,
    )
    _draw_figure(pen, spec)
    # Bilinear: soft edges, as photographs have. Sharper filters ring, and a small VAE pays 1 dB for it.
    small = canvas.resize((width_px, height_px), Image.Resampling.BILINEAR)
    return _light(small, spec.light)
