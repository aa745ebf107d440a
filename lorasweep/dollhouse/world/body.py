"""A doll below the neck: legs, the five outfits, arms in the four poses. Drawn with a `Pen`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lorasweep.dollhouse.world.attributes import OUTFIT_COLORS, RGB, SKINS
from lorasweep.dollhouse.world.pen import Pen, Point, shade, star_points
from lorasweep.dollhouse.world.spec import Spec

BOOT: Final[RGB] = (92, 58, 44)
STEEL: Final[RGB] = (184, 192, 206)
GOLD: Final[RGB] = (240, 190, 60)
SHOULDER: Final[Point] = (0.115, 0.545)

# Hands of (left, right) arm as seen; the left one is mirrored when drawn.
_HANDS: Final[dict[str, tuple[Point, Point]]] = {
    "standing": ((0.205, 0.70), (0.205, 0.70)),
    "arms up": ((0.335, 0.33), (0.335, 0.33)),
    "waving": ((0.205, 0.70), (0.335, 0.33)),
    "outstretched arms": ((0.335, 0.535), (0.335, 0.535)),
}


def draw_legs(pen: Pen, spec: Spec) -> None:
    """Draw legs and boots; long outfits are drawn over them."""
    skin = SKINS[spec.skin]
    greaves = spec.outfit == "armor"
    for side in (-1, 1):
        x = 0.062 * side
        pen.limb((x, 0.78), (x, 0.93), 0.082, shade(STEEL, -0.1) if greaves else skin)
        pen.limb((x, 0.935), (x + 0.018 * side, 0.955), 0.092, STEEL if greaves else BOOT)


def _mirror(points: list[Point]) -> list[Point]:
    return points + [(-x, y) for x, y in reversed(points)]


def _dress(pen: Pen, color: RGB) -> None:
    pen.polygon(_mirror([(0.10, 0.50), (0.095, 0.63), (0.215, 0.86)]), color)
    pen.patch([(0.03, 0.66), (0.085, 0.64), (0.195, 0.845), (0.11, 0.845)], shade(color, -0.18))
    pen.stroke([(-0.195, 0.835), (0.195, 0.835)], shade(color, 0.55), width=0.022)
    pen.stroke([(-0.09, 0.635), (0.09, 0.635)], shade(color, 0.55), width=0.026)


def _coat(pen: Pen, color: RGB) -> None:
    pen.polygon(_mirror([(0.125, 0.50), (0.15, 0.70), (0.165, 0.92)]), color)
    pen.patch([(0.05, 0.52), (0.115, 0.52), (0.15, 0.905), (0.08, 0.905)], shade(color, -0.15))
    pen.polygon([(-0.075, 0.50), (0.0, 0.60), (0.075, 0.50)], (236, 228, 214))
    pen.stroke([(0.0, 0.60), (0.0, 0.91)], shade(color, -0.5), width=0.016)
    for y in (0.66, 0.74, 0.82):
        pen.ellipse((-0.045, y), (0.017, 0.017), GOLD, bare=True)
    pen.stroke([(-0.15, 0.72), (0.15, 0.72)], shade(color, -0.5), width=0.026)


def _shirt(pen: Pen, color: RGB) -> None:
    shorts: RGB = (74, 84, 116)
    pen.polygon(_mirror([(0.115, 0.72), (0.125, 0.815), (0.012, 0.815), (0.0, 0.775)]), shorts)
    pen.polygon(_mirror([(0.11, 0.50), (0.12, 0.745)]), color)
    pen.patch([(0.05, 0.53), (0.10, 0.53), (0.11, 0.735), (0.06, 0.735)], shade(color, -0.15))
    pen.patch(star_points((0.0, 0.63), 0.05), shade(color, 0.7) if sum(color) < 500 else shade(color, -0.4))


def _armor(pen: Pen, color: RGB) -> None:
    pen.polygon(_mirror([(0.12, 0.72), (0.16, 0.83), (0.055, 0.81), (0.0, 0.83)]), STEEL)
    pen.polygon(_mirror([(0.12, 0.50), (0.13, 0.62), (0.095, 0.735)]), color)
    pen.patch([(0.0, 0.545), (0.095, 0.545), (0.075, 0.72), (0.0, 0.725)], shade(color, -0.18))
    pen.polygon([(-0.03, 0.54), (0.03, 0.54), (0.03, 0.59), (0.0, 0.66), (-0.03, 0.59)], GOLD)
    pen.stroke([(-0.1, 0.735), (0.1, 0.735)], GOLD, width=0.028)


def _kimono(pen: Pen, color: RGB) -> None:
    sash: RGB = (250, 225, 130) if max(color) - min(color) < 40 or color[0] < 220 else (150, 40, 60)
    pen.polygon(_mirror([(0.11, 0.50), (0.115, 0.66), (0.135, 0.93)]), color)
    pen.patch([(0.02, 0.70), (0.10, 0.70), (0.12, 0.915), (0.05, 0.915)], shade(color, -0.16))
    pen.stroke([(-0.075, 0.50), (0.02, 0.63)], (248, 246, 240), width=0.028)
    pen.stroke([(0.075, 0.50), (-0.02, 0.63)], (248, 246, 240), width=0.028)
    pen.polygon(_mirror([(0.118, 0.635), (0.122, 0.715)]), sash)
    pen.ellipse((-0.06, 0.83), (0.022, 0.022), shade(color, 0.6), bare=True)
    pen.ellipse((0.07, 0.78), (0.020, 0.020), shade(color, 0.6), bare=True)


_OUTFITS: Final[dict[str, Callable[[Pen, RGB], None]]] = {
    "dress": _dress,
    "coat": _coat,
    "shirt": _shirt,
    "armor": _armor,
    "kimono": _kimono,
}


def _sleeve(pen: Pen, outfit: str, color: RGB, skin: RGB, shoulder: Point, hand: Point) -> None:
    """Draw one arm: bare, short-sleeved, long-sleeved, armoured or wide-sleeved, as the outfit says."""

    def along(share: float) -> Point:
        return (
            shoulder[0] + (hand[0] - shoulder[0]) * share,
            shoulder[1] + (hand[1] - shoulder[1]) * share,
        )

    pen.limb(shoulder, hand, 0.072, skin)
    if outfit in ("shirt", "dress"):
        pen.limb(shoulder, along(0.30 if outfit == "dress" else 0.42), 0.094, color)
    elif outfit == "coat":
        pen.limb(shoulder, along(0.86), 0.092, color)
        pen.limb(along(0.80), along(0.86), 0.094, shade(color, 0.4))
    elif outfit == "armor":
        pen.limb(along(0.4), along(0.86), 0.082, STEEL)
        pen.ellipse((shoulder[0] * 1.12, shoulder[1] - 0.005), (0.066, 0.055), color)
    else:
        # A kimono's sleeve hangs below the arm, whatever the pose.
        wrist = along(0.88)
        drop = 0.10 if hand[1] < 0.6 else 0.06
        pen.polygon(
            [
                (shoulder[0], shoulder[1] - 0.035),
                (wrist[0], wrist[1] - 0.035),
                (wrist[0], wrist[1] + drop),
                (shoulder[0], shoulder[1] + 0.07),
            ],
            color,
        )


def draw_outfit(pen: Pen, spec: Spec) -> None:
    """Draw arms in the spec's pose and the outfit over them."""
    color, skin = OUTFIT_COLORS[spec.outfit_color], SKINS[spec.skin]
    left, right = _HANDS[spec.pose]
    for side, hand in ((-1, left), (1, right)):
        shoulder = (SHOULDER[0] * side, SHOULDER[1])
        _sleeve(pen, spec.outfit, color, skin, shoulder, (hand[0] * side, hand[1]))
    _OUTFITS[spec.outfit](pen, color)


def draw_scarf(pen: Pen) -> None:
    """Draw the scarf around the neck, one end hanging."""
    teal, pale = (0, 150, 150), (225, 250, 245)
    pen.polygon([(0.035, 0.53), (0.10, 0.53), (0.10, 0.70), (0.035, 0.70)], teal)
    pen.stroke([(0.035, 0.66), (0.10, 0.66)], pale, width=0.022)
    pen.stroke([(0.035, 0.61), (0.10, 0.61)], pale, width=0.022)
    pen.polygon([(-0.15, 0.475), (0.15, 0.475), (0.155, 0.55), (0.0, 0.575), (-0.155, 0.55)], teal)
    for x in (-0.09, 0.0, 0.09):
        pen.stroke([(x - 0.012, 0.485), (x + 0.012, 0.56)], pale, width=0.022)
