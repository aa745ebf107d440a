"""Stable Diffusion 1.x or 2.x from the disk; see `_source`."""

from lorasweep.components.bases._families import STABLE_DIFFUSION
from lorasweep.components.bases._source import Source

__getattr__ = Source(STABLE_DIFFUSION).__getattribute__
