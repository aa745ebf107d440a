"""A doll's head: hair behind and in front, face, glasses, hat, and the identity marks. Drawn with a `Pen`."""

from __future__ import annotations

import math
from typing import Final

from lorasweep.dollhouse.world.attributes import EYE_COLORS, HAIR_COLORS, MARK_COLOR_RGB, RGB, SKINS
from lorasweep.dollhouse.world.pen import Pen, Point, mix, shade, star_points
from lorasweep.dollhouse.world.spec import Spec

SKULL: Final[Point] = (0.0, 0.245)
SKULL_RADII: Final[Point] = (0.235, 0.235)
EYE: Final[Point] = (0.108, 0.295)
EYE_RADII: Final[Point] = (0.062, 0.072)
CHEEK: Final[Point] = (0.128, 0.41)
INK: Final[RGB] = (42, 26, 34)


def _dome(radius: float, bottom: float, flare: float) -> list[Point]:
    """Return a helmet of hair: an arch over the skull whose sides fall to `bottom`, `flare` wider there."""
    arch = [
        (radius * math.cos(math.pi * step / 12), SKULL[1] - radius * math.sin(math.pi * step / 12))
        for step in range(13)
    ]
    return [(radius + flare, bottom), *arch, (-radius - flare, bottom)]


def draw_back_hair(pen: Pen, spec: Spec) -> None:
    """Draw the hair that hangs behind the body."""
    color = HAIR_COLORS[spec.hair_color]
    dark = shade(color, -0.14)
    if spec.hair_style == "long hair":
        pen.polygon(_dome(0.255, 0.74, 0.02), dark)
        for x in (-0.19, 0.19):
            pen.stroke([(x, 0.5), (x * 1.05, 0.70)], shade(color, -0.34), width=0.014)
    elif spec.hair_style == "bob cut":
        pen.polygon(_dome(0.262, 0.455, 0.025), dark)
    elif spec.hair_style == "twintails":
        for side in (-1, 1):
            tail = [
                (0.20, 0.10),
                (0.33, 0.13),
                (0.385, 0.34),
                (0.345, 0.56),
                (0.29, 0.66),
                (0.27, 0.50),
                (0.245, 0.3),
            ]
            pen.polygon([(x * side, y) for x, y in tail], color)
            pen.stroke(
                [(0.30 * side, 0.2), (0.33 * side, 0.36), (0.30 * side, 0.56)],
                shade(color, -0.3),
                width=0.014,
            )
            pen.ellipse((0.225 * side, 0.125), (0.036, 0.036), shade(color, -0.55))
    elif spec.hair_style == "ponytail":
        tail = [
            (0.08, 0.02),
            (0.25, -0.03),
            (0.37, 0.08),
            (0.40, 0.28),
            (0.345, 0.50),
            (0.30, 0.30),
            (0.20, 0.14),
        ]
        pen.polygon(tail, color)
        pen.stroke([(0.22, 0.03), (0.335, 0.15), (0.35, 0.38)], shade(color, -0.3), width=0.014)


def draw_face(pen: Pen, spec: Spec) -> None:
    """Draw skull, ears, blush, mouth and eyes."""
    skin = SKINS[spec.skin]
    for side in (-1, 1):
        pen.ellipse((0.225 * side, 0.30), (0.035, 0.045), skin)
    pen.ellipse(SKULL, SKULL_RADII, skin)
    blush = mix(skin, (255, 80, 90), 0.35)
    pen.ellipse((-CHEEK[0] - 0.01, 0.392), (0.042, 0.024), blush, bare=True)
    pen.ellipse((CHEEK[0] + 0.01, 0.392), (0.042, 0.024), blush, bare=True)
    pen.arc((0.0, 0.395), (0.032, 0.026), (15, 165), (150, 30, 40), width=0.02)
    iris = EYE_COLORS[spec.eye_color]
    for side in (-1, 1):
        x, y = EYE[0] * side, EYE[1]
        pen.ellipse((x, y), (EYE_RADII[0] + 0.008, EYE_RADII[1] + 0.008), (252, 252, 255), line=INK)
        pen.ellipse((x, y + 0.004), (EYE_RADII[0] - 0.012, EYE_RADII[1] - 0.006), iris, bare=True)
        pen.ellipse((x, y + 0.034), (0.034, 0.026), shade(iris, 0.45), bare=True)
        pen.ellipse((x, y), (0.019, 0.026), shade(iris, -0.75), bare=True)
        pen.ellipse((x - 0.02, y - 0.03), (0.016, 0.017), (255, 255, 255), bare=True)
        pen.arc((x, y + 0.01), (EYE_RADII[0] + 0.01, EYE_RADII[1] + 0.012), (200, 340), INK, width=0.024)


def draw_front_hair(pen: Pen, spec: Spec) -> None:
    """Draw the cap of hair, the bangs and a highlight."""
    color = HAIR_COLORS[spec.hair_color]
    rim = 0.245
    arch = [
        (rim * math.cos(math.pi * step / 12), SKULL[1] - rim * 1.02 * math.sin(math.pi * step / 12))
        for step in range(13)
    ]
    long_sides = spec.hair_style in ("long hair", "bob cut")
    side_y = 0.43 if long_sides else 0.32
    bangs = [
        (-0.178, 0.21),
        (-0.11, 0.165),
        (-0.07, 0.225),
        (-0.01, 0.165),
        (0.05, 0.225),
        (0.11, 0.165),
        (0.178, 0.21),
    ]
    left_lock = [(-0.25, side_y), (-0.20, side_y - 0.02)]
    right_lock = [(0.20, side_y - 0.02), (0.25, side_y)]
    pen.polygon([*arch, *left_lock, *bangs, *right_lock], color)
    if spec.hair_style == "short hair":
        for x in (-0.06, 0.0, 0.06):
            pen.polygon([(x - 0.035, 0.015), (x + 0.025, -0.05), (x + 0.035, 0.015)], color)
            pen.patch([(x - 0.045, 0.035), (x + 0.02, -0.02), (x + 0.045, 0.035)], color)
    gloss = shade(color, 0.5) if spec.hair_color != "white" else (255, 255, 255)
    pen.arc((0.0, 0.22), (0.185, 0.155), (205, 262), gloss, width=0.026)


def draw_glasses(pen: Pen) -> None:
    """Draw round glasses over the eyes."""
    for side in (-1, 1):
        pen.ring((EYE[0] * side, EYE[1]), (0.094, 0.098), (20, 18, 30), width=0.027)
    pen.stroke([(-0.02, 0.285), (0.02, 0.285)], (20, 18, 30), width=0.027)
    for side in (-1, 1):
        pen.stroke([(0.195 * side, 0.28), (0.24 * side, 0.27)], (20, 18, 30), width=0.022)


def draw_hat(pen: Pen) -> None:
    """Draw a brown hat that sits on the crown and leaves the bangs free."""
    felt: RGB = (150, 92, 44)
    pen.polygon([(-0.165, 0.08), (-0.135, -0.105), (0.135, -0.105), (0.165, 0.08)], felt)
    pen.polygon([(-0.163, 0.03), (0.163, 0.03), (0.165, 0.085), (-0.165, 0.085)], (240, 190, 60))
    pen.ellipse((0.0, 0.095), (0.315, 0.042), felt)
    pen.stroke([(-0.24, 0.083), (0.24, 0.083)], shade(felt, 0.3), width=0.014)


def draw_head_mark(pen: Pen, mark: str, color: RGB) -> None:
    """Draw a mark on the head, outside the silhouette of hats."""
    line = shade(color, -0.6)
    for side in (-1, 1):
        if mark == "horns":
            horn = [(0.13, 0.055), (0.235, 0.015), (0.30, -0.13), (0.205, -0.06), (0.085, 0.02)]
            pen.polygon([(x * side, y) for x, y in horn], color, line=line)
        elif mark == "cat ears":
            pen.polygon([(x * side, y) for x, y in [(0.075, 0.04), (0.215, -0.13), (0.255, 0.14)]], color, line=line)
            inner = [(0.14, 0.035), (0.205, -0.06), (0.225, 0.08)]
            pen.patch([(x * side, y) for x, y in inner], shade(color, 0.6))
        elif mark == "antenna":
            pen.stroke([(0.09 * side, 0.03), (0.205 * side, -0.09)], line, width=0.03)
            pen.ellipse((0.215 * side, -0.095), (0.052, 0.052), color, line=line)
    if mark == "halo":
        pen.ring((0.0, -0.055), (0.235, 0.062), line, width=0.056)
        pen.ring((0.0, -0.055), (0.225, 0.052), color, width=0.034)


def draw_face_mark(pen: Pen, mark: str, color: RGB) -> None:
    """Draw a mark on the face.

    Each has its own place as well as its own shape: at six pixels a star and a heart are the same blot to a
    VAE, but a blot on the left cheek is not one on the right.
    """
    line = shade(color, -0.6)
    if mark == "star":
        pen.polygon(star_points(CHEEK, 0.076, inner=0.5), color, line=line)
    elif mark == "heart":
        x, y = -CHEEK[0], CHEEK[1]
        lobes = [(x - 0.066, y - 0.014), (x - 0.042, y - 0.052), (x, y - 0.022), (x + 0.042, y - 0.052)]
        pen.polygon([(x, y + 0.064), *lobes, (x + 0.066, y - 0.014)], color, line=line)
    elif mark == "tear":
        for side in (-1, 1):
            x = EYE[0] * side
            pen.stroke([(x, 0.372), (x, 0.462)], line, width=0.062)
            pen.stroke([(x, 0.372), (x, 0.452)], color, width=0.040)
    elif mark == "scar":
        pen.stroke([(-0.185, 0.352), (0.185, 0.392)], line, width=0.060)
        pen.stroke([(-0.180, 0.353), (0.180, 0.391)], color, width=0.038)


def draw_marks(pen: Pen, spec: Spec) -> None:
    """Draw both identity marks, if any."""
    if spec.mark_color != "none":
        draw_head_mark(pen, spec.head_mark, MARK_COLOR_RGB[spec.mark_color])
        draw_face_mark(pen, spec.face_mark, MARK_COLOR_RGB[spec.mark_color])
