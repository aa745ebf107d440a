"""FLUX.1 dev, from a diffusers folder on the disk; see `_source`."""

from lorasweep.components.bases._families import FLUX1_DEV
from lorasweep.components.bases._source import Source

__getattr__ = Source(FLUX1_DEV).__getattribute__
