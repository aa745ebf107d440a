"""Scales, ticks and frames of a chart, as SVG.

    Scale(low, high, start_px, end_px)(value) -> px

Colours and fonts come from the page's style sheet by class, so that a chart follows light and dark. Knows
nothing about what is plotted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lorasweep.report.markup import Child, Markup, tag


@dataclass(frozen=True)
class Scale:
    """A straight line from values to px; a range of no width is drawn in its middle."""

    low: float
    high: float
    start_px: float
    end_px: float

    def __call__(self, value: float) -> float:
        """Px of a value; values outside are drawn at the edge."""
        span = self.high - self.low
        share = 0.5 if span == 0 else (value - self.low) / span
        return self.start_px + min(1.0, max(0.0, share)) * (self.end_px - self.start_px)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values inside the range, about `count` of them."""
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        raw = span / max(1, count)
        power = 10.0 ** math.floor(math.log10(raw))
        step = power * next(nice for nice in (1, 2, 2.5, 5, 10) if nice * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(index * step, 12) for index in range(first, last + 1)]


def padded(values: Iterable[float], *, share: float = 0.06) -> tuple[float, float]:
    """The range of values with some room at both ends; (0, 1) when there are none."""
    known = list(values)
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    room = (high - low) * share or abs(high) * share or share
    return low - room, high + room


def svg(
    width_px: float,
    height_px: float,
    *children: Child,
    label: str,
    class_: str = "chart",
    shown_px: float | None = None,
) -> Markup:
    """The element around a chart; it shrinks with the page, and its label says what it shows.

    Args:
        width_px: of the drawing's own units, as height_px.
        height_px: see width_px.
        children: what is drawn.
        label: for those who cannot see it.
        class_: for the style sheet.
        shown_px: how wide it may get on a big screen; None: width_px.
    """
    return tag(
        "svg",
        *children,
        viewBox=f"0 0 {width_px:g} {height_px:g}",
        role="img",
        aria_label=label,
        class_=class_,
        style=f"max-width:{shown_px or width_px:g}px",
    )


def text(x: float, y: float, words: str, *, anchor: str = "start", class_: str = "tick") -> Markup:
    """Words at a point."""
    return tag("text", words, x=round(x, 2), y=round(y, 2), text_anchor=anchor, class_=class_)


def line(points: Sequence[tuple[float, float]], *, class_: str) -> Markup:
    """A line through points."""
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def marker(shape: str, x: float, y: float, *, class_: str, radius: float = 5.0, title: str = "") -> Markup:
    """A mark told from others by its shape alone: `circle`, `cross`, `triangle` or `square`."""
    r = radius
    shapes = {
        "circle": f"M{-r:g},0a{r:g},{r:g} 0 1,0 {2 * r:g},0a{r:g},{r:g} 0 1,0 {-2 * r:g},0z",
        "cross": f"M{-r:g},{-r:g}L{r:g},{r:g}M{-r:g},{r:g}L{r:g},{-r:g}",
        "triangle": f"M0,{-1.1 * r:g}L{r:g},{0.8 * r:g}L{-r:g},{0.8 * r:g}z",
        "square": f"M{-0.85 * r:g},{-0.85 * r:g}h{1.7 * r:g}v{1.7 * r:g}h{-1.7 * r:g}z",
    }
    return tag(
        "path",
        tag("title", title) if title else None,
        d=shapes[shape],
        transform=f"translate({x:.1f} {y:.1f})",
        class_=class_,
    )


def frame(
    x: Scale, y: Scale, *, x_name: str = "", y_name: str = "", x_ticks: int = 5, y_ticks: int = 5
) -> Markup:
    """Grid lines, numbers and names of both axes."""
    parts: list[Child] = []
    for value in y.ticks(y_ticks):
        parts.append(line([(x.start_px, y(value)), (x.end_px, y(value))], class_="grid"))
        parts.append(text(x.start_px - 6, y(value) + 4, f"{value:g}", anchor="end"))
    for value in x.ticks(x_ticks):
        parts.append(line([(x(value), y.start_px), (x(value), y.start_px + 4)], class_="grid"))
        parts.append(text(x(value), y.start_px + 17, f"{value:g}", anchor="middle"))
    parts.append(line([(x.start_px, y.start_px), (x.end_px, y.start_px)], class_="axis"))
    if x_name:
        middle = (x.start_px + x.end_px) / 2
        parts.append(text(middle, y.start_px + 36, x_name, anchor="middle", class_="name"))
    if y_name:
        parts.append(text(x.start_px - 30, y.end_px - 14, y_name, class_="name"))
    return tag("g", *parts)


def spread(places: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Move labels apart along one axis, as little as their order allows.

    Args:
        places: where each label would like to be.
        gap: what two labels need between them.
        low: what none may leave, as long as there is room.
        high: the same at the other end.
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = [min(max(places[index], low), high) for index in order]
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + gap)
    overflow = moved[-1] - high if moved else 0.0
    if overflow > 0:
        moved[-1] -= overflow
        for index in range(len(moved) - 2, -1, -1):
            moved[index] = min(moved[index], moved[index + 1] - gap)
    found = [0.0] * len(places)
    for place, index in enumerate(order):
        found[index] = moved[place]
    return found
