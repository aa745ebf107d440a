"""Tables of everything a doll can be: attribute values, colours, identity marks, shipped image sizes.

Plain data. Knows nothing about drawing, tags order or sampling. Colours are sRGB triples in [0, 255],
chosen far apart, because a doll's eye is about six pixels wide and has to survive a VAE.
"""

from __future__ import annotations

from typing import Final

RGB = tuple[int, int, int]

HAIR_COLORS: Final[dict[str, RGB]] = {
    "black": (40, 35, 50),
    "blonde": (250, 210, 84),
    "red": (212, 40, 40),
    "blue": (50, 92, 226),
    "green": (50, 166, 80),
    "pink": (250, 128, 190),
    "white": (236, 238, 247),
}
EYE_COLORS: Final[dict[str, RGB]] = {
    "blue": (30, 110, 245),
    "green": (20, 170, 60),
    "red": (225, 25, 35),
    "purple": (160, 50, 215),
    "yellow": (250, 190, 10),
}
SKINS: Final[dict[str, RGB]] = {
    "pale skin": (255, 225, 206),
    "tan": (228, 170, 122),
    "dark skin": (134, 83, 56),
}
OUTFIT_COLORS: Final[dict[str, RGB]] = {
    "red": (204, 34, 46),
    "blue": (38, 82, 212),
    "green": (32, 148, 70),
    "yellow": (248, 200, 40),
    "purple": (136, 56, 190),
    "white": (240, 240, 245),
    "black": (46, 43, 56),
}
MARK_COLOR_RGB: Final[dict[str, RGB]] = {
    "gold": (255, 190, 0),
    "cyan": (0, 225, 238),
    "magenta": (255, 0, 160),
    "lime": (130, 250, 0),
}

ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "hair_color": tuple(HAIR_COLORS),
    "hair_style": ("short hair", "long hair", "twintails", "ponytail", "bob cut"),
    "eye_color": tuple(EYE_COLORS),
    "skin": tuple(SKINS),
    "outfit": ("dress", "coat", "shirt", "armor", "kimono"),
    "outfit_color": tuple(OUTFIT_COLORS),
    "pose": ("standing", "arms up", "waving", "outstretched arms"),
    "background": ("beach", "forest", "city", "night sky", "snow", "simple background"),
    "accessory": ("none", "hat", "glasses", "scarf"),
}
"""Every captioned attribute and its values. The order is the canonical order of tags."""

INTRINSIC: Final[tuple[str, ...]] = ("hair_color", "hair_style", "eye_color", "skin")
"""Attributes that belong to a character rather than to one picture of it."""

HEAD_MARKS: Final[tuple[str, ...]] = ("horns", "cat ears", "antenna", "halo")
FACE_MARKS: Final[tuple[str, ...]] = ("star", "tear", "heart", "scar")
MARK_COLORS: Final[tuple[str, ...]] = tuple(MARK_COLOR_RGB)
NO_MARK: Final[str] = "none"

SIZES_PX: Final[tuple[tuple[int, int], ...]] = ((64, 64), (56, 72), (72, 56), (48, 80), (80, 48))
"""Shipped (width, height) sizes, of nearly the same area; 64 x 64 stands for Stable Diffusion's 512 x 512."""
