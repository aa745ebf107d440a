"""Stable Diffusion 3.5, from a diffusers folder on the disk; see `_source`."""

from lorasweep.components.bases._families import SD35
from lorasweep.components.bases._source import Source

__getattr__ = Source(SD35).__getattribute__
