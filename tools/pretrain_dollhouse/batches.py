"""Batches of rendered dolls as tensors.

Every draw comes from (seed, stage, step, rank), so a resumed run sees the same pictures as one that was never
interrupted. Knows nothing about models.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from lorasweep.dollhouse.world.attributes import SIZES_PX
from lorasweep.dollhouse.world.render import render
from lorasweep.dollhouse.world.spec import Spec, sample_spec
from lorasweep.dollhouse.world.subjects import SUBJECT_MARKS

SQUARE_SHARE = 0.6


def generator_for(seed: int, stage: str, *indices: int) -> np.random.Generator:
    """Return numpy's generator for one use: a stage and, say, a step and a rank."""
    return np.random.default_rng([seed, zlib.crc32(stage.encode()), *indices])


def draw_size(rng: np.random.Generator) -> tuple[int, int]:
    """Draw a (width, height) in px: square six times in ten, else one of the other shipped sizes."""
    if rng.random() < SQUARE_SHARE:
        return SIZES_PX[0]
    return SIZES_PX[1 + int(rng.integers(len(SIZES_PX) - 1))]


def to_tensor(specs: list[Spec], width_px: int, height_px: int) -> Tensor:
    """Render specs to a float tensor of shape BCHW in [0, 1]."""
    pixels_BHWC = np.stack([np.asarray(render(spec, width_px, height_px)) for spec in specs])
    return torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2).float().div_(255.0)


def training_specs(rng: np.random.Generator, count: int, *, mark_rate: float) -> list[Spec]:
    """Draw specs that pre-training may see: no held-out combination, no shipped subject's marks."""
    return [sample_spec(rng, split="train", mark_rate=mark_rate, excluded_marks=SUBJECT_MARKS) for _ in range(count)]
