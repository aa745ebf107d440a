"""Stable Diffusion 1.x or 2.x from the disk; see `_source`."""

from __future__ import annotations

from lorasweep.components.bases._families import STABLE_DIFFUSION, UNET_SCOPES
from lorasweep.components.bases._source import Source

_SOURCE = Source(STABLE_DIFFUSION)
PARTS, SCOPES = _SOURCE.family.parts, UNET_SCOPES
problems = _SOURCE.problems
noise = _SOURCE.noise
fingerprint = _SOURCE.fingerprint
weight_shapes = _SOURCE.weight_shapes
largest_rank = _SOURCE.largest_rank
text_window = _SOURCE.text_window
load = _SOURCE.load
