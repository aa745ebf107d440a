"""Anima, from a diffusers folder on the disk; see `_source`."""

from __future__ import annotations

from lorasweep.components.bases._families import ANIMA, ANIMA_SCOPES
from lorasweep.components.bases._source import Source

_SOURCE = Source(ANIMA)
PARTS, SCOPES = _SOURCE.family.parts, ANIMA_SCOPES
problems = _SOURCE.problems
noise = _SOURCE.noise
fingerprint = _SOURCE.fingerprint
weight_shapes = _SOURCE.weight_shapes
largest_rank = _SOURCE.largest_rank
text_window = _SOURCE.text_window
load = _SOURCE.load
