"""A pen that draws outlined shapes in a figure's own coordinates, on a supersampled canvas.

The figure's frame has x = 0 on its axis (right positive), y = 0 at the crown of its head and y = 1 at its
soles, so a doll is described once and drawn at any size. Knows nothing about dolls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import ImageDraw

from lorasweep.dollhouse.world.attributes import RGB

Point = tuple[float, float]


def shade(color: RGB, amount: float) -> RGB:
    """Darken (amount < 0) or lighten (amount > 0) a colour; -1 is black, 1 is white."""
    target = 255.0 if amount > 0 else 0.0
    red, green, blue = (round(channel + (target - channel) * abs(amount)) for channel in color)
    return red, green, blue


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """Blend two colours; `share` in [0, 1] is how much of the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


class Pen:
    """Draws shapes given in the figure's frame."""

    def __init__(self, draw: ImageDraw.ImageDraw, *, axis_px: float, crown_px: float, figure_px: float) -> None:
        """Bind the pen to a supersampled canvas, and to a frame by its origin and the figure's height there."""
        self._draw = draw
        self._axis_px = axis_px
        self._crown_px = crown_px
        self._figure_px = figure_px
        self._line_px = 0.016 * figure_px

    def _place(self, points: Sequence[Point]) -> list[Point]:
        return [(self._axis_px + x * self._figure_px, self._crown_px + y * self._figure_px) for x, y in points]

    def polygon(self, points: Sequence[Point], fill: RGB, *, line: RGB | None = None) -> None:
        """Fill a polygon; the outline, unless given, is a darker shade of the fill."""
        placed = self._place(points)
        self._draw.polygon(placed, fill=fill)
        edge = shade(fill, -0.45) if line is None else line
        self._draw.line([*placed, placed[0], placed[1]], fill=edge, width=round(self._line_px), joint="curve")

    def patch(self, points: Sequence[Point], fill: RGB) -> None:
        """Fill a polygon without an outline."""
        self._draw.polygon(self._place(points), fill=fill)

    def ellipse(self, center: Point, radii: Point, fill: RGB, *, line: RGB | None = None, bare: bool = False) -> None:
        """Fill an ellipse; `bare` leaves the outline out."""
        (x, y), (rx, ry) = center, radii
        box = self._place([(x - rx, y - ry), (x + rx, y + ry)])
        if bare:
            self._draw.ellipse(box, fill=fill)
            return
        edge = shade(fill, -0.45) if line is None else line
        self._draw.ellipse(box, fill=fill, outline=edge, width=round(self._line_px))

    def ring(self, center: Point, radii: Point, color: RGB, *, width: float) -> None:
        """Stroke an ellipse that stays hollow; `width` is a share of the figure's height."""
        (x, y), (rx, ry) = center, radii
        box = self._place([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse(box, outline=color, width=max(1, round(width * self._figure_px)))

    def arc(self, center: Point, radii: Point, degrees: Point, color: RGB, *, width: float) -> None:
        """Stroke a part of an ellipse between two angles, clockwise from three o'clock."""
        (x, y), (rx, ry) = center, radii
        (left, top), (right, bottom) = self._place([(x - rx, y - ry), (x + rx, y + ry)])
        stroke_px = max(1, round(width * self._figure_px))
        self._draw.arc((left, top, right, bottom), degrees[0], degrees[1], fill=color, width=stroke_px)

    def stroke(self, points: Sequence[Point], color: RGB, *, width: float) -> None:
        """Stroke an open line; `width` is a share of the figure's height."""
        stroke_px = max(1, round(width * self._figure_px))
        self._draw.line(self._place(points), fill=color, width=stroke_px, joint="curve")

    def limb(self, start: Point, end: Point, width: float, fill: RGB) -> None:
        """Draw a rounded, outlined bar from `start` to `end`; `width` is a share of the figure's height."""
        edge = shade(fill, -0.45)
        line = self._line_px / self._figure_px
        for color, thick in ((edge, width + line), (fill, width - line)):
            self.stroke([start, end], color, width=thick)
            for x, y in (start, end):
                self.ellipse((x, y), (thick / 2, thick / 2), color, bare=True)


def star_points(center: Point, radius: float, *, spikes: int = 5, inner: float = 0.45) -> list[Point]:
    """Return the corners of a star standing on its legs, in the frame of `center`."""
    corners = []
    for index in range(2 * spikes):
        reach = radius if index % 2 == 0 else radius * inner
        angle = math.pi * index / spikes - math.pi / 2
        corners.append((center[0] + reach * math.cos(angle), center[1] + reach * math.sin(angle)))
    return corners
