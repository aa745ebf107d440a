"""What the end of a file's name says: a picture that is read, one that is not, a caption."""

from __future__ import annotations

from pathlib import Path

# By content they are PNG, JPEG, WebP, BMP, GIF or TIFF, whatever their suffix.
IMAGE_SUFFIXES = frozenset(".png .apng .jpg .jpeg .jpe .jfif .jif .pjpeg .pjp .mpo .webp .bmp .gif .tif .tiff".split())
# Pictures to people, but not to us: phones' and cameras' formats, those of editors, and films.
UNREAD_SUFFIXES = frozenset(
    ".heic .heif .hif .avif .jxl .jp2 .j2k .psd .psb .xcf .kra .clip .ora .svg .tga .dds .dib .ico .qoi .exr "
    ".hdr .ppm .pgm .pbm .pnm .dng .cr2 .cr3 .nef .arw .orf .raf .rw2 .mp4 .webm .mov .mkv .avi".split()
)
CAPTION_SUFFIXES = (".txt", ".caption", ".captions", ".tags")
_MASKS = ("-masklabel", "-condlabel")  # OneTrainer's masks, beside their images


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is a picture that is read; a mask is not one."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.stem.endswith(_MASKS)


def is_unread(path: Path) -> bool:
    """Whether a file's name says that it is a picture in a format that is not read."""
    return path.suffix.lower() in UNREAD_SUFFIXES
