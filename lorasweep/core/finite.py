"""Find NaN and infinity in files of weights: what a broken merge leaves, and no learning rate can mend.

Reads the numbers as bits, so that every precision is told alike and nothing is converted. What was found is
remembered in `cache/finite.json` by the file's digest: a base is read through once per machine. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from lorasweep.core import files, paths
from lorasweep.core.safetensors_header import Tensor, read_header

# Of a float whose exponent bits are all set: infinity or NaN, by the type's width and mask.
_EXPONENTS = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
    "F8_E5M2": (np.uint8, 0x7C),
    "F8_E4M3": (np.uint8, 0x7F),  # has no infinity
}
_AT_ONCE = 1 << 20  # numbers; what fits a processor's cache is read fastest
_MASKS = ("attn_mask", "causal_mask")  # buffers that are infinite on purpose


def broken_tensors(file: Path, digest: str, beginnings: Iterable[str] = ("",)) -> list[str]:
    """Name the tensors of a file that hold NaN or infinity.

    Args:
        file: a whole safetensors file.
        digest: of its content.
        beginnings: only tensors whose names begin with one of these count.
    """
    known = files.read_object(_memory())
    if digest not in known:
        known = {**known, digest: _search(file, read_header(file))}
        files.write_cache(_memory(), known)
    return [name for name in known[digest] if name.startswith(tuple(beginnings))]


def _search(file: Path, tensors: Mapping[str, Tensor]) -> list[str]:
    content = np.memmap(file, np.uint8, mode="r")
    return [
        name
        for name, tensor in tensors.items()
        if tensor.dtype in _EXPONENTS
        and not name.endswith(_MASKS)
        and _is_broken(content[tensor.begin : tensor.end], tensor.dtype)
    ]


def _is_broken(content: np.ndarray, dtype: str) -> bool:
    bits, exponent = _EXPONENTS[dtype]
    if content.size % np.dtype(bits).itemsize:
        return False  # a header that contradicts itself, which loading will say
    if content.ctypes.data % np.dtype(bits).itemsize:
        content = content.copy()  # numbers of an odd place in the file
    numbers = content.view(bits)
    mask = bits(exponent)
    return any(
        bool(((numbers[start : start + _AT_ONCE] & mask) == mask).any()) for start in range(0, len(numbers), _AT_ONCE)
    )


def _memory() -> Path:
    return paths.cache() / "finite.json"
