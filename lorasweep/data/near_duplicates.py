"""Find images that show the same thing: copies, re-encodings, small crops of colour or size.

Takes Pillow images, gives back short signatures and groups of them. Knows nothing about files.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

_GRID = 16  # bits per row and rows of the gradient hash
_COLOR_GRID = 4
# Measured on 60 dollhouse pictures of one character: copies (JPEG at quality 50, enlarged, brightened) are at
# most 18 bits and 7 levels away, two different pictures at least 38 bits and 16 levels.
_MOST_BITS = 24  # of 256
_MOST_COLOR = 12  # levels of 255, in any cell and channel


def signature(image: Image.Image) -> str:
    """Describe an RGB image in 80 bytes, as hex: a 16 x 16 gradient hash (dHash) and 4 x 4 mean colours.

    Source: N. Krawetz, "Kind of Like That" (hackerfactor.com, 2013) for dHash; the colours are ours, since
    flat images have no gradients to tell them apart.
    """
    gray = image.convert("L").resize((_GRID + 1, _GRID), Image.Resampling.LANCZOS).tobytes()
    rows = [gray[start : start + _GRID + 1] for start in range(0, len(gray), _GRID + 1)]
    bits = [row[x] > row[x + 1] for row in rows for x in range(_GRID)]
    gradient = sum(1 << index for index, bit in enumerate(bits) if bit)
    colors = image.resize((_COLOR_GRID, _COLOR_GRID), Image.Resampling.BOX).tobytes()
    return gradient.to_bytes(_GRID * _GRID // 8, "big").hex() + colors.hex()


def are_near(first: str, second: str) -> bool:
    """Whether two signatures are of near-duplicates."""
    one, two = bytes.fromhex(first), bytes.fromhex(second)
    split = _GRID * _GRID // 8
    gradients = int.from_bytes(one[:split], "big") ^ int.from_bytes(two[:split], "big")
    if gradients.bit_count() > _MOST_BITS:
        return False
    return max(abs(a - b) for a, b in zip(one[split:], two[split:], strict=True)) <= _MOST_COLOR


def groups(signatures: Sequence[str]) -> list[list[int]]:
    """Group indices of near-duplicates; a chain of near images is one group, a lone image a group of one."""
    found: list[list[int]] = []
    for index, current in enumerate(signatures):
        near = [group for group in found if any(are_near(current, signatures[other]) for other in group)]
        merged = sorted([*(member for group in near for member in group), index])
        found = [group for group in found if group not in near] + [merged]
    return sorted(found)
