"""Stable Diffusion XL and what was made from it (Illustrious, NoobAI, Pony), from the disk; see `_source`."""

from __future__ import annotations

from collections.abc import Iterator

from lorasweep.components.bases._families import SDXL
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


__getattr__ = _StableDiffusionXL(SDXL).__getattribute__
