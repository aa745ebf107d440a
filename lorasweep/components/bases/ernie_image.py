"""ERNIE-Image, from a diffusers folder on the disk; see `_source`."""

from lorasweep.components.bases._families import ERNIE_IMAGE
from lorasweep.components.bases._source import Source

__getattr__ = Source(ERNIE_IMAGE).__getattribute__
