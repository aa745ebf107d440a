"""Ideogram 4, from a diffusers folder on the disk; see `_source`."""

from lorasweep.components.bases._families import IDEOGRAM4
from lorasweep.components.bases._source import Source

__getattr__ = Source(IDEOGRAM4).__getattribute__
