"""Find images that show the same thing: copies, re-encodings, small crops of colour or size.

Takes Pillow images, gives back short signatures and groups of them. Knows nothing about files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

_GRID = 16  # bits per row and rows of the gradient hash
_COLOR_GRID = 4
# Measured on 60 dollhouse pictures of one character: copies (JPEG at quality 50, enlarged, brightened) are at
# most 18 bits and 7 levels away, two different pictures at least 38 bits and 16 levels.
_MOST_BITS = 24  # of 256
_MOST_COLOR = 12  # levels of 255, in any cell and channel
_APART = 512  # between the keys of two parts: more than 255 levels and 12
_CHUNK_PAIRS = 100_000

Numbers = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


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


def groups(signatures: Sequence[str]) -> list[list[int]]:
    """Group indices of near-duplicates; a chain of near images is one group, a lone image a group of one.

    Two gradients that differ in at most 24 of 256 bits are equal in at least one of 25 parts, so only images
    that share a part, and whose colours are close in one cell, are compared: about linear in their number.
    Where so many share a part that this is more than comparing all of one colour, all of one colour are.
    """
    if not signatures:
        return []
    whole = np.frombuffer(bytes.fromhex("".join(signatures)), dtype=np.uint8).reshape(len(signatures), -1)
    gradients, colors = whole[:, : _GRID * _GRID // 8], whole[:, _GRID * _GRID // 8 :].astype(np.int16)
    words = np.ascontiguousarray(gradients).view(np.uint64)
    level = colors[:, colors.std(axis=0).argmax()].astype(np.int64)
    shares = [_windows(part, level) for part in _parts(gradients)]
    everything = _windows(np.zeros_like(level), level)
    if sum(window.pairs for window in shares) > everything.pairs:
        shares = [everything]
    label = np.arange(len(signatures))
    for window in shares:
        for one, other in window.compared():
            apart = label[one] != label[other]
            one, other = one[apart], other[apart]
            near = np.bitwise_count(words[one] ^ words[other]).sum(axis=1, dtype=np.int64) <= _MOST_BITS
            one, other = one[near], other[near]
            near = np.abs(colors[one] - colors[other]).max(axis=1, initial=0) <= _MOST_COLOR
            label = _joined(label, one[near], other[near])
    found: dict[int, list[int]] = {}
    for index, group in enumerate(label.tolist()):
        found.setdefault(group, []).append(index)
    return sorted(found.values())


def _parts(gradients: Bytes) -> Iterator[Numbers]:
    """Cut the gradients into one part more than they may differ in bits; a part is a number per image."""
    bits = np.unpackbits(gradients, axis=1)
    for first in range(_MOST_BITS + 1):
        # Bits from all over the picture: neighbours are alike, above all where a picture is empty.
        part = bits[:, first :: _MOST_BITS + 1].astype(np.int64)
        yield part @ (1 << np.arange(part.shape[1]))


@dataclass(frozen=True)
class _Windows:
    """Images in an order in which those to compare with one are right behind it."""

    order: Numbers
    ends: Numbers  # by place in the order: the place after the last to compare with

    @property
    def pairs(self) -> int:
        return int((self.ends - np.arange(len(self.ends)) - 1).sum())

    def compared(self) -> Iterator[tuple[Numbers, Numbers]]:
        """Return pairs of images, some 100,000 at a time, so that many images take no more memory."""
        places = np.arange(len(self.order))
        behind = self.ends - places - 1
        before = np.concatenate([[0], np.cumsum(behind)])
        first = 0
        while first < len(places):
            last = max(first + 1, int(np.searchsorted(before, before[first] + _CHUNK_PAIRS, "right")) - 1)
            counts = behind[first:last]
            one = np.repeat(places[first:last], counts)
            other = one + 1 + np.arange(len(one)) - np.repeat(before[first:last] - before[first], counts)
            yield self.order[one], self.order[other]
            first = last


def _windows(part: Numbers, level: Numbers) -> _Windows:
    """Find whom to compare with whom: of an equal part and with a colour level at most 12 apart."""
    key = part * _APART + level
    order = np.argsort(key, kind="stable")
    return _Windows(order, np.searchsorted(key[order], key[order] + _MOST_COLOR, "right"))


def _joined(label: Numbers, one: Numbers, other: Numbers) -> Numbers:
    """Give the groups of every pair one label."""
    if not len(one):
        return label
    from scipy.sparse import coo_array  # a fifth of a second, and only what has near-duplicates asks
    from scipy.sparse.csgraph import connected_components

    pairs = coo_array((np.ones(len(one), bool), (label[one], label[other])), shape=(len(label), len(label)))
    joined: Numbers = connected_components(pairs, directed=False)[1]
    return joined[label]
