"""Stable Diffusion XL and what was made from it (Illustrious, NoobAI, Pony), from the disk; see `_source`."""

from __future__ import annotations

from collections.abc import Iterator

from lorasweep.components.bases._families import SDXL, UNET_SCOPES
from lorasweep.components.bases._source import Source
from lorasweep.core.records import BaseOptions


class _StableDiffusionXL(Source):
    def problems(self, options: BaseOptions) -> list[tuple[str, str, str]]:
        return [*_clip_skip_problems(options), *super().problems(options)]


def _clip_skip_problems(options: BaseOptions) -> Iterator[tuple[str, str, str]]:
    if options.clip_skip != 1:
        reason = (
            "SDXL was trained on the last layer but one of both text encoders, which UIs call clip skip 2 or ignore"
        )
        yield ("clip_skip", f"must be left out: {reason}, got {options.clip_skip}", "leave base.clip_skip out")


_SOURCE = _StableDiffusionXL(SDXL)
PARTS, SCOPES = _SOURCE.family.parts, UNET_SCOPES
problems = _SOURCE.problems
noise = _SOURCE.noise
fingerprint = _SOURCE.fingerprint
weight_shapes = _SOURCE.weight_shapes
largest_rank = _SOURCE.largest_rank
text_window = _SOURCE.text_window
load = _SOURCE.load
