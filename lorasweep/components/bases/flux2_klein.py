"""FLUX.2 klein base, 4B and 9B, from a diffusers folder on the disk; see `_source`."""

from lorasweep.components.bases._families import FLUX2_KLEIN
from lorasweep.components.bases._source import Source

__getattr__ = Source(FLUX2_KLEIN).__getattribute__
