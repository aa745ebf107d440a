"""Colour profiles for tests, made from numbers: ICC v2, matrix or gray, one gamma."""

from __future__ import annotations

import struct

# XYZ under D50 of the red, green and blue of Adobe RGB (1998) and of Display P3.
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
_D50 = (0.9642, 1.0, 0.8249)


def rgb_profile(primaries: tuple[tuple[float, ...], ...] = ADOBE_RGB, gamma: float = 2.2) -> bytes:
    """A profile of an RGB monitor."""
    tags = [(f"{name}XYZ".encode(), _xyz(column)) for name, column in zip("rgb", primaries, strict=True)]
    tags += [(f"{name}TRC".encode(), _curve(gamma)) for name in "rgb"]
    return _profile(b"RGB ", tags)


def gray_profile(gamma: float = 1.0) -> bytes:
    """A profile of a gray monitor."""
    return _profile(b"GRAY", [(b"kTRC", _curve(gamma))])


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def _profile(space: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    name = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = [(b"desc", name + bytes(-len(name) % 4)), (b"wtpt", _xyz(_D50)), *tags]
    tags.append((b"cprt", b"text" + bytes(4) + b"none"))
    place = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for key, data in tags:
        table += key + struct.pack(">II", place + len(body), len(data))
        body += data
    head = bytes(4) + struct.pack(">I", 0x02100000) + b"mntr" + space + b"XYZ "
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + b"".join(map(_fixed, _D50))
    head += bytes(48)
    return struct.pack(">I", 128 + len(table) + len(body)) + head + table + body
