"""Open an image file as people see it: upright, in RGB, on white; and make the planned crop of it.

Takes paths and `PlannedImage`s, gives back Pillow images. Knows nothing about datasets or latents.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from lorasweep.data.near_duplicates import signature
from lorasweep.errors import DatasetError, Problem
from lorasweep.records import PlannedImage

LARGEST_PX = 100_000_000  # about 300 MB once decoded; more is a mistake or a decompression bomb
LARGEST_BYTES = 1_000_000_000  # 100 million pixels in 16-bit colour with alpha are 800 MB
# Only what the suffixes promise: Pillow would also open, say, PostScript under the name of a .png.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_PAPER = (255, 255, 255)


@dataclass(frozen=True)
class ImageFacts:
    """What planning needs to know about an image.

    Attributes:
        sha256: hex digest of the file's bytes.
        width_px: upright.
        height_px: upright.
        signature: hex, for `near_duplicates`.
    """

    sha256: str
    width_px: int
    height_px: int
    signature: str


def open_rgb(path: Path | str) -> Image.Image:
    """Open an image: EXIF rotation applied, alpha on white, first frame, 16 bits to 8, any mode to RGB.

    Raises:
        DatasetError: it cannot be read, is truncated, or has more than 100 million pixels.
    """
    return _decode(_read_bytes(Path(path)), Path(path))


def inspect(path: Path) -> ImageFacts:
    """Read all of an image once, so that whatever is wrong with it is found before anything runs.

    Raises:
        DatasetError: as `open_rgb`.
    """
    content = _read_bytes(path)
    image = _decode(content, path)
    return ImageFacts(
        sha256=hashlib.sha256(content).hexdigest(),
        width_px=image.width,
        height_px=image.height,
        signature=signature(image),
    )


def load_planned(image: PlannedImage) -> Image.Image:
    """Open, resize and crop an image to exactly its bucket's size.

    Raises:
        DatasetError: it cannot be read, or is not the file that was planned.
    """
    content = _read_bytes(Path(image.file))
    if hashlib.sha256(content).hexdigest() != image.sha256:
        raise _unreadable(Path(image.file), "has changed since it was planned", "run the command again")
    resized = _decode(content, Path(image.file)).resize(image.resize_px, Image.Resampling.LANCZOS)
    left, top = image.crop_px
    return resized.crop((left, top, left + image.bucket.width_px, top + image.bucket.height_px))


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise _unreadable(
                path, f"must have at most {LARGEST_BYTES // 10**6} MB", "save it with compression"
            )
        if not path.is_file():
            raise _unreadable(path, "is not a file")
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror}") from error


def _decode(content: bytes, path: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below
        try:
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                if image.width * image.height > LARGEST_PX:
                    raise Image.DecompressionBombError
                return _to_rgb(ImageOps.exif_transpose(image))
        except Image.DecompressionBombError as error:
            message = f"must have at most {LARGEST_PX // 1_000_000} million pixels"
            raise _unreadable(
                path, message, "make it smaller: training shrinks it to a bucket anyway"
            ) from error
        except UnidentifiedImageError as error:
            raise _unreadable(path, "is not an image that can be read", "is the suffix right?") from error
        except Exception as error:
            # Pillow's decoders raise whatever they like on broken files: OSError, SyntaxError, struct.error.
            raise _unreadable(path, f"is broken: {error}", "replace it, or move it away") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I"):
        # Sixteen bits: 65535 / 257 = 255.
        image = image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    elif image.mode == "F":
        brightest = image.getextrema()[1]
        scale = 255.0 if isinstance(brightest, float) and brightest <= 1.0 else 1.0
        image = image.point(lambda value: value * scale + 0.5).convert("L")
    if image.has_transparency_data:
        alpha = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", alpha.size, (*_PAPER, 255)), alpha)
    return image.convert("RGB")


def _unreadable(path: Path, message: str, hint: str = "") -> DatasetError:
    return DatasetError(Problem(f"{path.parent.name}/{path.name}", message, hint), subject="the dataset")
