"""Bases on the CPU as if freshly loaded: read from the disk once a process, and a copy for everyone who asks."""

from __future__ import annotations

import copy
import functools
from typing import Any

from lorasweep.core import registry
from lorasweep.core.records import BaseOptions


def fresh(options: BaseOptions, *, precision: str = "fp32", device: str = "cpu", **how: Any) -> Any:
    """A base with modules of its own, which nobody has touched; tokenizers are shared."""
    base = _loaded(options, precision=precision, device=device, **how)
    return copy.deepcopy(base, {id(tokenizer): tokenizer for tokenizer in base.tokenizers})


@functools.lru_cache(maxsize=16)
def _loaded(options: BaseOptions, **how: Any) -> Any:
    return registry.load("base", options.name).load(options, **how)
