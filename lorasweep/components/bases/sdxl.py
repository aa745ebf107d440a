"""Stable Diffusion XL and what was made from it (Illustrious, NoobAI, Pony), from the disk; see `_source`."""

from __future__ import annotations

from lorasweep.components.bases._families import SDXL
from lorasweep.components.bases._source import Source
from lorasweep.core.records import BaseOptions


class _StableDiffusionXL(Source):
    def problems(self, options: BaseOptions) -> list[tuple[str, str, str]]:
        found = super().problems(options)
        if options.clip_skip == 1:
            return found
        reason = "trained on the last layer but one of both text encoders, which UIs call clip skip 2 or ignore"
        message = f"must be left out: SDXL was {reason}, got {options.clip_skip}"
        return [("clip_skip", message, "leave base.clip_skip out"), *found]


__getattr__ = _StableDiffusionXL(SDXL).__getattribute__
