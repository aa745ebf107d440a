"""Take a PNG apart where Pillow refuses sound ones: long texts, such as workflows, and long colour profiles.

Takes and gives back bytes. Pillow's own limits are globals of the process and stay as they are.
"""

from __future__ import annotations

import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# Texts that may say how a picture is turned. Kept, unless unpacking them is more than Pillow would do.
_MAY_TURN = (b"XML:com.adobe.xmp", b"Raw profile type exif")
_LARGEST_TEXT_BYTES = 2**20  # as Pillow's MAX_TEXT_CHUNK
_LARGEST_PROFILE_BYTES = 16 * 2**20  # as much as a JPEG can hold


def without_metadata(content: bytes) -> tuple[bytes, bytes | None]:
    """Remove texts and colour profile from a PNG; anything else comes back as it is.

    Returns:
        The same picture, and its ICC profile: None without one, empty when it cannot be unpacked.

    Source: PNG specification, third edition, 5.3 and 11.3.
    """
    if not content.startswith(_SIGNATURE):
        return content, None
    profile: bytes | None = None
    kept: list[memoryview] = []
    view = memoryview(content)
    begin, place = 0, len(_SIGNATURE)
    while place + 12 <= len(content):
        end = place + 12 + int.from_bytes(view[place : place + 4])  # length, kind, body, checksum
        kind = bytes(view[place + 4 : place + 8])
        if kind == b"iCCP" or kind in _TEXTS:
            body = bytes(view[place + 8 : end - 4])
            if kind == b"iCCP" and profile is None:
                profile = _unpacked(body.partition(b"\0")[2][1:], _LARGEST_PROFILE_BYTES) or b""
            if kind == b"iCCP" or not _is_needed(kind, body):
                kept.append(view[begin:place])
                begin = end
        place = end
    return (b"".join([*kept, view[begin:]]) if kept else content), profile


def _is_needed(kind: bytes, body: bytes) -> bool:
    """Tell whether a text may say how the picture is turned, and is short."""
    key, _, rest = body.partition(b"\0")
    if key not in _MAY_TURN:
        return False
    if kind == b"zTXt":
        return _unpacked(rest[1:], _LARGEST_TEXT_BYTES) is not None
    if kind == b"iTXt" and rest[:1] == b"\1":
        return _unpacked(rest[2:].split(b"\0", 2)[-1], _LARGEST_TEXT_BYTES) is not None
    return True


def _unpacked(packed: bytes, most_bytes: int) -> bytes | None:
    """Inflate; None when it is broken or longer than allowed."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(packed, most_bytes)
    except zlib.error:
        return None
    return None if inflater.unconsumed_tail or not inflater.eof else content
