"""Colour profiles: turn a picture's numbers into sRGB, as viewers and browsers show them.

Takes ICC profiles and Pillow images. Knows nothing about files.
"""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageCms

# The mode that LittleCMS reads for a profile's colour space, and the modes that can be brought into it.
_GRAYS = ("1", "L", "LA", "I", "F")
_SPACES: dict[str, tuple[str, Sequence[str]]] = {
    "RGB": ("RGB", ("RGB", "RGBA", "RGBX", "P", "PA", "YCbCr", *_GRAYS)),
    "GRAY": ("L", _GRAYS),
    "CMYK": ("CMYK", ("CMYK",)),
    "Lab": ("LAB", ("LAB",)),
}
# Profiles that call themselves sRGB are up to 2 levels of 255 from each other, a plain gamma of 2.2 is 8.
_SAME_LEVELS = 2
_INTENT = ImageCms.Intent.PERCEPTUAL  # what browsers take when nothing else is asked for


class ProfileError(ValueError):
    """A profile that cannot be used, and why."""


@dataclass(frozen=True)
class Conversion:
    """A way into sRGB."""

    mode: str  # that images must have
    transform: ImageCms.ImageCmsTransform  # LittleCMS's

    def __call__(self, image: Image.Image) -> Image.Image:
        """Convert an image of `mode` to RGB."""
        converted = ImageCms.applyTransform(image, self.transform)
        assert converted is not None  # it is only when it works in place
        return converted


def conversion(icc: bytes | None, mode: str) -> Conversion | None:
    """Choose how an image, by its profile if any, becomes sRGB; None where its numbers are, or mean nothing much.

    Raises:
        ProfileError: the profile is broken, or is one for other images.
    """
    if icc is None:
        return _conversion_of_lab() if mode == "LAB" else None
    found = _conversion(icc)
    space, (wanted, fitting) = found[0], _SPACES[found[0]]
    if mode.partition(";")[0] not in fitting:
        raise ProfileError(f"is one for {space}, the picture is {mode}")
    return Conversion(wanted, found[1]) if found[1] is not None else None


@functools.lru_cache(maxsize=8)  # a dataset has few, and each takes up to 16 MB and a tenth of a second
def _conversion(icc: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return the colour space of a profile and the transform to sRGB, None when there is nothing to convert."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = profile.profile.xcolor_space.strip()
        if space not in _SPACES:
            raise ProfileError(f"is one for {space}")
        mode = _SPACES[space][0]
        transform = ImageCms.buildTransform(
            profile, ImageCms.createProfile("sRGB"), mode, "RGB", renderingIntent=_INTENT
        )
    except (OSError, ImageCms.PyCMSError) as error:
        raise ProfileError("is broken") from error
    return space, None if _changes_nothing(Conversion(mode, transform)) else transform


@functools.cache
def _conversion_of_lab() -> Conversion:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return Conversion("LAB", ImageCms.buildTransform(lab, srgb, "LAB", "RGB", renderingIntent=_INTENT))


def _changes_nothing(convert: Conversion) -> bool:
    """Tell whether grays, and 9 x 9 x 9 colours, stay what they are."""
    if convert.mode not in ("RGB", "L"):
        return False
    steps = [min(255, 32 * step) for step in range(9)]
    colors = [*itertools.product(steps, repeat=3), *((gray, gray, gray) for gray in range(256))]
    before = Image.frombytes("RGB", (len(colors), 1), bytes(itertools.chain.from_iterable(colors)))
    if convert.mode == "L":
        before = before.crop((len(colors) - 256, 0, len(colors), 1))
    after = convert(before.convert(convert.mode))
    pairs = zip(before.tobytes(), after.tobytes(), strict=True)
    return max(abs(one - other) for one, other in pairs) <= _SAME_LEVELS
