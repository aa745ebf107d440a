"""Bases on the CPU as if freshly loaded: read from the disk once a process, and a copy for everyone who asks."""

from __future__ import annotations

import copy
import functools
import io
import pickle
from collections.abc import Sequence
from typing import Any

import torch

from lorasweep.core import registry
from lorasweep.core.records import BaseOptions


def fresh(options: BaseOptions, *, precision: str = "fp32", device: str = "cpu", **how: Any) -> Any:
    """A base with modules of its own, which nobody has touched; tokenizers are shared."""
    base, written, kept = _written(options, precision=precision, device=device, **how)
    if written is None:
        return copy.deepcopy(base, {id(tokenizer): tokenizer for tokenizer in base.tokenizers})
    return _Reader(io.BytesIO(written), kept).load()


@functools.lru_cache(maxsize=16)
def _written(options: BaseOptions, **how: Any) -> tuple[Any, bytes | None, Sequence[Any]]:
    """A base, and where it can be written down that, which is read five times as fast as a deep copy is made."""
    base = registry.load("base", options.name).load(options, **how)
    stream = io.BytesIO()
    writer = _Writer(stream, shared=base.tokenizers)
    try:
        writer.dump(base)
    except (AttributeError, TypeError, pickle.PicklingError):  # a function within a function
        return base, None, ()
    return base, stream.getvalue(), writer.kept


class _Writer(pickle.Pickler):
    """Keeps tensors aside, and what is shared."""

    def __init__(self, stream: io.BytesIO, *, shared: Sequence[Any]) -> None:
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
        self.kept: list[Any] = []
        self._shared = {id(each) for each in shared}
        self._places: dict[int, int] = {}

    def persistent_id(self, found: Any) -> int | None:
        if not isinstance(found, torch.Tensor) and id(found) not in self._shared:
            return None
        if id(found) not in self._places:
            self._places[id(found)] = len(self.kept)
            self.kept.append(found)
        return self._places[id(found)]


class _Reader(pickle.Unpickler):
    """Copies each tensor once."""

    def __init__(self, stream: io.BytesIO, kept: Sequence[Any]) -> None:
        super().__init__(stream)
        self._kept = kept
        self._copies: dict[int, Any] = {}

    def persistent_load(self, place: int) -> Any:
        if place not in self._copies:
            found = self._kept[place]
            self._copies[place] = copy.deepcopy(found) if isinstance(found, torch.Tensor) else found
        return self._copies[place]
