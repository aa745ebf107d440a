"""Open an image file as people see it: upright, in sRGB, on white; and make the planned crop of it.

Takes paths and `PlannedImage`s, gives back Pillow images. Knows nothing about datasets or latents.
What a file says about itself is checked before it is decoded, and what is decoded is turned into RGB band by
band: no picture takes more than about a gigabyte.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from lorasweep.core import paths
from lorasweep.core.errors import DatasetError, Problem
from lorasweep.core.records import Mask, PlannedImage
from lorasweep.data import color, look, png
from lorasweep.data.near_duplicates import signature

T = TypeVar("T")

VERSION = 6  # of `ImageFacts`: facts that an earlier one found are looked up anew
LARGEST_PX = 100_000_000  # 400 MB once decoded; more is a mistake or a decompression bomb
LARGEST_HELD_PX = 50_000_000  # of formats whose decoder holds a picture several times
LARGEST_BYTES = 1_000_000_000  # 100 million pixels in 16-bit colour with alpha are 800 MB
# Long side over short side. Scaled to cover a bucket, a longer one would mostly be cut away, and fill the
# memory before: 1 x 60,000 px covers a bucket of 512 px with 15 billion pixels.
LONGEST_RATIO = 20
# Only what the suffixes promise: Pillow would also open, say, PostScript under the name of a .png.
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF")
_HELD = ("WEBP", "AVIF")
_PAPER = (255, 255, 255)
_BAND_PX = 4_000_000
_ORIENTATION = 0x0112  # of EXIF; values as in its table, sides of the picture to turn to
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ImageFacts:
    """What planning needs to know about an image."""

    sha256: str  # hex digest of the file's bytes
    width_px: int  # upright
    height_px: int  # upright
    signature: str  # hex, for `near_duplicates`
    profile: str  # hex digest of the colour profile that it is converted from; "" when it is in sRGB as it is
    unused_profile: str  # why the profile that it has is not used, "" when it is or there is none
    is_animated: bool  # whether it holds several frames or pages, of which the first is used
    is_see_through: bool  # whether parts of it are transparent, which become white
    is_cmyk: bool  # whether it is in printers' colours, which screens show otherwise
    sharpness: float  # see `look`
    border: float  # see `look`


@dataclass(frozen=True)
class _Decoded:
    pixels: Image.Image  # upright, RGB, in sRGB
    facts: dict[str, Any]  # of `ImageFacts`, what decoding tells


def open_rgb(path: Path | str) -> Image.Image:
    """Open an image: upright, in sRGB, alpha on white, first frame, 16 bits to 8, any mode to RGB.

    Raises:
        DatasetError: it cannot be read, is truncated, has more than 100 million pixels, or is too thin.
    """
    return _decode(_read_bytes(Path(path)), Path(path)).pixels


def inspect(path: Path) -> ImageFacts:
    """Read all of an image once, so that whatever is wrong with it is found before anything runs.

    Raises:
        DatasetError: as `open_rgb`.
    """
    content = _read_bytes(path)
    decoded = _decode(content, path)
    gray = look.levels(decoded.pixels)
    return ImageFacts(
        sha256=hashlib.sha256(content).hexdigest(),
        width_px=decoded.pixels.width,
        height_px=decoded.pixels.height,
        signature=signature(decoded.pixels),
        **decoded.facts,
        sharpness=look.sharpness(gray),
        border=look.border(gray),
    )


def load_planned(image: PlannedImage) -> Image.Image:
    """Open, resize and crop an image to exactly its bucket's size.

    Resized whole: Pillow rounds otherwise when it resizes a part, and the ratio bounds what is cut away.

    Raises:
        DatasetError: it cannot be read, or is not the file that was planned.
    """
    pixels = _decode(_read_planned(image.path, image.sha256), image.path).pixels
    return _cropped(pixels, image, Image.Resampling.LANCZOS)


def load_mask(image: PlannedImage, mask: Mask) -> Image.Image:
    """Open an image's mask, gray, resized by areas (nothing rings) and cropped as the image is.

    Raises:
        DatasetError: it cannot be read, or is not the file that was planned.
    """
    path = Path(mask.file)
    content = _read_planned(path, mask.sha256)
    found = _decode_mask(content, path, mask.channel)
    assert found is not None, path  # the very bytes that were planned
    return _cropped(found, image, Image.Resampling.BOX)


def plan_mask(image: PlannedImage, path: Path, channel: Literal["alpha", "gray"]) -> Mask | None:
    """Read a mask; None where it is an alpha channel that is opaque all over.

    Raises:
        DatasetError: it cannot be read, has another size than its image, or has 1 for white, which is all but black.
    """
    content = _read_bytes(path)
    if (found := _decode_mask(content, path, channel)) is None:
        return None
    if found.size != (image.width_px, image.height_px):
        got = f"{found.width} x {found.height} px, and {image.short} {image.width_px} x {image.height_px}"
        raise _unreadable(path, f"must be as large as its image, is {got}", "draw the mask on the image itself")
    if found.getextrema()[1] == 1:
        raise _unreadable(path, "has 0 and 1 for black and white, and white is 255", "multiply it by 255")
    share = float(np.asarray(_cropped(found, image, Image.Resampling.BOX)).mean()) / 255
    return Mask(file=str(path), sha256=hashlib.sha256(content).hexdigest(), channel=channel, share=share)


def _cropped(pixels: Image.Image, image: PlannedImage, resample: Image.Resampling) -> Image.Image:
    left, top = image.crop_px
    box = (left, top, left + image.bucket.width_px, top + image.bucket.height_px)
    return pixels.resize(image.resize_px, resample).crop(box)


def _read_planned(path: Path, sha256: str) -> bytes:
    content = _read_bytes(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _unreadable(path, "has changed since it was planned", "run the command again")
    return content


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise _unreadable(path, f"must have at most {LARGEST_BYTES // 10**6} MB", "save it with compression")
        if not path.is_file():
            raise _unreadable(path, "is not a file")
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror}") from error


def _decode(content: bytes, path: Path) -> _Decoded:
    return _opened(content, path, _upright_srgb)


def _decode_mask(content: bytes, path: Path, channel: Literal["alpha", "gray"]) -> Image.Image | None:
    if channel == "alpha":
        return _opened(content, path, lambda image, _: _upright_alpha(image))
    found = _opened(content, path, lambda image, _: _upright_srgb(image, None))
    if found.facts["is_see_through"]:
        message = "is transparent in places, which is neither black nor white"
        raise _unreadable(path, message, "fill these with black, or with white where the picture counts")
    return found.pixels.convert("L")


def _opened(content: bytes, path: Path, use: Callable[[Image.Image, bytes | None], T]) -> T:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on metadata and sizes: what matters is said below
        try:
            content, icc = png.without_metadata(content)
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                _require_bounds(image, path)
                return use(image, image.info.get("icc_profile") if icc is None else icc)
        except DatasetError:
            raise
        except Image.DecompressionBombError as error:
            raise _too_large(path, LARGEST_PX) from error
        except UnidentifiedImageError as error:
            if not content:
                raise _unreadable(path, "is empty", "replace it, or move it away") from error
            raise _unreadable(path, "is not an image that can be read", "is the suffix right?") from error
        except Exception as error:
            # Pillow's decoders raise whatever they like on broken files: OSError, SyntaxError, struct.error.
            raise _unreadable(path, f"is broken: {error}", "replace it, or move it away") from error


def _require_bounds(image: Image.Image, path: Path) -> None:
    """Refuse an image by its header.

    Raises:
        DatasetError: it has too many pixels, or is too thin.
    """
    largest = min(LARGEST_PX, LARGEST_HELD_PX) if image.format in _HELD else LARGEST_PX
    tags = getattr(image, "tag_v2", {})  # a TIFF's tiles are decoded whole, and may be larger than it is
    width, height = max(image.width, tags.get(322, 0)), max(image.height, tags.get(323, 0))
    if width * height > largest:
        raise _too_large(path, largest, (width, height))
    short, long = sorted(image.size)
    if long > LONGEST_RATIO * short:
        message = f"may be {LONGEST_RATIO} times as long as wide at most, got {image.width} x {image.height} px"
        raise _unreadable(path, message, "cut it into pieces, or move it away")


def _upright_srgb(image: Image.Image, icc: bytes | None) -> _Decoded:
    is_animated = _is_animated(image)
    image.load()
    is_cmyk, is_see_through = image.mode == "CMYK", _alpha(image) is not None
    unused = ""
    try:
        convert = color.conversion(icc, image.mode)
    except color.ProfileError as error:
        convert, unused = None, str(error)
    white = _white(image)
    rows = max(1, _BAND_PX // image.width)
    pixels = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(image.height, top + rows)))
        pixels.paste(_band_to_rgb(band, convert, white), (0, top))
    turn = _UPRIGHT.get(_orientation(image) or 0)
    image.close()  # its pixels are free before a turned copy is made
    facts = {"is_animated": is_animated, "is_see_through": is_see_through, "is_cmyk": is_cmyk}
    profile = hashlib.sha256(icc).hexdigest() if convert and icc else ""
    upright = pixels if turn is None else pixels.transpose(turn)
    return _Decoded(upright, {"profile": profile, "unused_profile": unused, **facts})


def _upright_alpha(image: Image.Image) -> Image.Image | None:
    image.load()
    alpha, turn = _alpha(image), _UPRIGHT.get(_orientation(image) or 0)
    return alpha if alpha is None or turn is None else alpha.transpose(turn)


def _is_animated(image: Image.Image) -> bool:
    """Tell whether there are frames behind the first; a phone's MPO has another view of it, or a depth map."""
    try:
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception:  # what is broken behind the first frame is not needed
        return False


def _alpha(image: Image.Image) -> Image.Image | None:
    """Return how opaque each place is; None where all are, as in most GIFs that name a transparent colour."""
    if not image.has_transparency_data:
        return None
    alpha = (image if "A" in image.getbands() else image.convert("RGBA")).getchannel("A")
    return alpha if np.asarray(alpha).min() < 255 else None


def _orientation(image: Image.Image) -> int | None:
    """Return what the metadata say of it; None when they are broken: viewers then show the picture as it is."""
    try:
        return int(image.getexif()[_ORIENTATION])
    except Exception:  # broken metadata make Pillow's readers raise whatever they like
        return None


def _white(image: Image.Image) -> float:
    """Return the value that stands for white in an image whose mode does not say so."""
    if image.mode.startswith("I"):
        return 65535.0
    brightest = image.getextrema()[1] if image.mode == "F" else 255.0
    return 1.0 if isinstance(brightest, float) and brightest <= 1.0 else 255.0


def _band_to_rgb(band: Image.Image, convert: color.Conversion | None, white: float) -> Image.Image:
    if band.mode.startswith("I"):
        band = band.convert("I")
    if band.mode in ("I", "F"):
        band = band.point(lambda value: value * (255 / white) + 0.5).convert("L")
    see_through = band.convert("RGBA") if band.has_transparency_data else None
    if convert is not None:
        band = convert(band.convert(convert.mode))
    if see_through is None:
        return band.convert("RGB")
    if convert is not None:
        alpha = see_through.getchannel("A")
        see_through = band.convert("RGBA")
        see_through.putalpha(alpha)
    paper = Image.new("RGBA", see_through.size, (*_PAPER, 255))
    return Image.alpha_composite(paper, see_through).convert("RGB")


def _too_large(path: Path, largest: int, size: tuple[int, int] | None = None) -> DatasetError:
    got = f", got {size[0]} x {size[1]}" if size else ""
    message = f"must have at most {largest // 1_000_000} million pixels{got}"
    return _unreadable(path, message, "make it smaller: training shrinks it to a bucket anyway")


def _unreadable(path: Path, message: str, hint: str = "") -> DatasetError:
    return DatasetError(Problem(paths.short(path), message, hint), subject="the dataset")
