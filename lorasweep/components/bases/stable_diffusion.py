"""Stable Diffusion 1.x or 2.x from the disk; see `_source`."""

from __future__ import annotations

import functools

from lorasweep.components.bases._families import STABLE_DIFFUSION
from lorasweep.components.bases._source import Source

__getattr__ = functools.partial(getattr, Source(STABLE_DIFFUSION))
