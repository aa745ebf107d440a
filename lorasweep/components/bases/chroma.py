"""Chroma, from a diffusers folder on the disk; see `_source`."""

from lorasweep.components.bases._families import CHROMA
from lorasweep.components.bases._source import Source

__getattr__ = Source(CHROMA).__getattribute__
