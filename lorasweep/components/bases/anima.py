"""Anima, from a diffusers folder on the disk; see `_source`."""

from lorasweep.components.bases._families import ANIMA
from lorasweep.components.bases._source import Source

__getattr__ = Source(ANIMA).__getattribute__
