"""Read and order the headers of safetensors files, and tell files that only bear the name. No torch, no weights."""

from __future__ import annotations

import functools
import json
import math
import struct
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep.core.files import stamp

LARGEST_HEADER = 100_000_000  # bytes; the format's own limit
_OTHERS = (  # how a file begins that was only named .safetensors
    (b"PK\x03\x04", "a pickle under another name (.ckpt or .pt), which can run code when opened"),
    (b"\x80\x02", "a pickle under another name (.ckpt or .pt), which can run code when opened"),
    (b"GGUF", "a GGUF file, whose weights are quantised for drawing, not for training"),
    (b"version https://git-lfs", "a pointer of Git LFS; the file itself was not downloaded (git lfs pull)"),
    (b"<", "a web page; the download was refused, most likely for want of a login"),
    (b'{"', "a JSON text; the download was refused, most likely for want of a login"),
)

_NUMBERS = {"F64": "<d", "F32": "<f", "BF16": "<f", "F16": "<e", "I64": "<q", "I32": "<i", "U8": "<B", "BOOL": "<?"}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file: its type as the format names it, shape, and place in the file in bytes."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(file: Path) -> Mapping[str, Tensor]:
    """Read the tensors of a file by name; a ValueError says what it is if it is no whole safetensors file."""
    return _remembered(file)[0]


def read_metadata(file: Path) -> Mapping[str, str]:
    """Read what a file says about itself; empty when it says nothing. Raises as `read_header`."""
    return _remembered(file)[1]


def read_number(file: Path, tensor: Tensor) -> float:
    """Read a tensor that is one number; NaN where it is none, or of a type that is not read."""
    with open(file, "rb") as stream:
        stream.seek(tensor.begin)
        held = stream.read(tensor.end - tensor.begin if math.prod(tensor.shape) == 1 else 0)
    if tensor.dtype == "BF16":
        held = b"\0\0" + held
    form = _NUMBERS.get(tensor.dtype)
    if form is None or len(held) != struct.calcsize(form):
        return math.nan
    return float(struct.unpack(form, held)[0])


def _remembered(file: Path) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
    try:
        size, *times = stamp(file)
    except OSError as error:
        raise ValueError(f"which cannot be read: {error.strerror}") from error
    return _read(file, size, *times)


@functools.lru_cache(maxsize=32)
def _read(file: Path, size: int, *times: int) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
    try:
        with open(file, "rb") as stream:
            start = stream.read(24)
            length = int.from_bytes(start[:8], "little")
            stream.seek(8)
            text = stream.read(length) if 0 < length < LARGEST_HEADER else b""
    except OSError as error:
        raise ValueError(f"which cannot be read: {error.strerror}") from error
    if not size:
        raise ValueError("which is empty")
    for beginning, what in _OTHERS:
        if start.startswith(beginning):
            raise ValueError(f"which is {what}")
    if len(text) < length and length < LARGEST_HEADER:
        raise ValueError("which is torn: it ends within its header")
    try:
        listed = json.loads(text)
        told = {str(key): str(value) for key, value in (listed.pop("__metadata__", None) or {}).items()}
        tensors = {name: _tensor(entry, 8 + length) for name, entry in listed.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("whose header is not that of a safetensors file") from error
    wanted = max((tensor.end for tensor in tensors.values()), default=0)
    if size < wanted:
        raise ValueError(f"which is torn: {size:,} of {wanted:,} bytes are there")
    places = sorted((tensor.begin, tensor.end) for tensor in tensors.values())
    if [end for _, end in [(0, 8 + length), *places]] != [*(begin for begin, _ in places), size]:
        raise ValueError("whose tensors overlap or leave gaps")
    return types.MappingProxyType(tensors), types.MappingProxyType(told)


def _tensor(entry: dict[str, Any], origin: int) -> Tensor:
    begin, end = (origin + int(offset) for offset in entry["data_offsets"])
    return Tensor(str(entry["dtype"]), tuple(int(side) for side in entry["shape"]), begin, end)


def sort_metadata(path: Path) -> None:
    """Put the metadata of a .safetensors into order: the library hashes it, differently in every process."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8, as the library has it
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])
