"""Lumina-Image 2, from a diffusers folder on the disk; see `_source`."""

from lorasweep.components.bases._families import LUMINA2
from lorasweep.components.bases._source import Source

__getattr__ = Source(LUMINA2).__getattribute__
