"""Qwen-Image, from a diffusers folder on the disk; see `_source`."""

from lorasweep.components.bases._families import QWEN_IMAGE
from lorasweep.components.bases._source import Source

__getattr__ = Source(QWEN_IMAGE).__getattribute__
