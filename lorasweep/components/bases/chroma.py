"""Chroma, from a diffusers folder on the disk; see `_source`."""

from __future__ import annotations

import functools

from lorasweep.components.bases._families import CHROMA
from lorasweep.components.bases._source import Source

__getattr__ = functools.partial(getattr, Source(CHROMA))
