"""Find NaN, infinity and nothing but zeros in files of weights: what broken merges and untrained adapters leave.

Reads the numbers as bits, so that every precision is told alike and nothing is converted. What was found is
remembered in `cache/finite.json` by the file's digest: a base is read through once per machine. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
    """Name the tensors of a whole safetensors file, with that digest and such beginnings, that hold NaN or infinity."""
    known = files.read_object(_memory())
    if digest not in known:
        known = {**known, digest: _search(file, read_header(file))}
        files.write_cache(_memory(), known)
    return [name for name in known[digest] if name.startswith(tuple(beginnings))]


def zero_tensors(file: Path) -> set[str]:
    """Name the tensors of a whole safetensors file that hold zeros alone, of either sign."""
    content = np.memmap(file, np.uint8, mode="r")
    return {
        name
        for name, tensor in read_header(file).items()
        if tensor.dtype in _EXPONENTS and not any((bits << 1).any() for bits in _bits(content, tensor))
    }


def _search(file: Path, tensors: Mapping[str, Tensor]) -> list[str]:
    content = np.memmap(file, np.uint8, mode="r")
    return [
        name
        for name, tensor in tensors.items()
        if tensor.dtype in _EXPONENTS and not name.endswith(_MASKS) and _is_broken(content, tensor)
    ]


def _is_broken(content: np.ndarray, tensor: Tensor) -> bool:
    kind, exponent = _EXPONENTS[tensor.dtype]
    mask = kind(exponent)
    return any(bool(((bits & mask) == mask).any()) for bits in _bits(content, tensor))


def _bits(content: np.ndarray, tensor: Tensor) -> Iterator[np.ndarray]:
    """Return a tensor's numbers as unsigned integers, some at a time."""
    kind, _ = _EXPONENTS[tensor.dtype]
    own = content[tensor.begin : tensor.end]
    if own.size % np.dtype(kind).itemsize:
        return  # a header that contradicts itself, which loading will say
    if own.ctypes.data % np.dtype(kind).itemsize:
        own = own.copy()  # numbers of an odd place in the file
    numbers = own.view(kind)
    for start in range(0, len(numbers), _AT_ONCE):
        yield numbers[start : start + _AT_ONCE]


def _memory() -> Path:
    return paths.facts("finite")
