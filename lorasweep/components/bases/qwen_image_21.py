"""Qwen-Image 2.1, from a diffusers folder on the disk; see `_source`."""

from lorasweep.components.bases._families import QWEN_IMAGE_21
from lorasweep.components.bases._source import Source

__getattr__ = Source(QWEN_IMAGE_21).__getattribute__
