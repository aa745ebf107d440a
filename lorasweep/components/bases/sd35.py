"""Stable Diffusion 3.5, from a diffusers folder on the disk; see `_source`."""

from __future__ import annotations

import functools

from lorasweep.components.bases._families import SD35
from lorasweep.components.bases._source import Source

__getattr__ = functools.partial(getattr, Source(SD35))
