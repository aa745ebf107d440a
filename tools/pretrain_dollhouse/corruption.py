"""Ways a picture may be off: slight ones that a reader must see through, and gross ones that it must report.

Functions of a batch and a torch generator. Knows nothing about dolls.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def _uniform(batch: int, low: float, high: float, generator: Generator) -> Tensor:
    return (low + (high - low) * torch.rand(batch, generator=generator))[:, None, None, None]


def slight(image_BCHW: Tensor, generator: Generator) -> Tensor:
    """Add faint noise, a faint blur and a faint change of gain: what a VAE or a few-step sampler does."""
    batch = len(image_BCHW)
    blurred_BCHW = F.avg_pool2d(F.pad(image_BCHW, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share_B = _uniform(batch, 0.0, 0.5, generator) * (torch.rand(batch, 1, 1, 1, generator=generator) < 0.5)
    softened_BCHW = image_BCHW + share_B * (blurred_BCHW - image_BCHW)
    grain_BCHW = torch.randn(image_BCHW.shape, generator=generator) * _uniform(batch, 0.0, 0.03, generator)
    gain_B = _uniform(batch, 0.97, 1.03, generator)
    return (softened_BCHW * gain_B + grain_BCHW).clamp(0.0, 1.0)


def _blend(image_BCHW: Tensor, generator: Generator) -> Tensor:
    share_B = _uniform(len(image_BCHW), 0.35, 0.65, generator)
    return image_BCHW * share_B + image_BCHW.roll(1, dims=0) * (1.0 - share_B)


def _noise(image_BCHW: Tensor, generator: Generator) -> Tensor:
    grain_BCHW = torch.randn(image_BCHW.shape, generator=generator)
    return image_BCHW + grain_BCHW * _uniform(len(image_BCHW), 0.12, 0.4, generator)


def _blur(image_BCHW: Tensor, generator: Generator) -> Tensor:
    factor = int(torch.randint(4, 8, (1,), generator=generator))
    small_BCHW = F.avg_pool2d(image_BCHW, factor, ceil_mode=True)
    return F.interpolate(small_BCHW, size=image_BCHW.shape[-2:], mode="bilinear")


def _burn(image_BCHW: Tensor, generator: Generator) -> Tensor:
    contrast_B = _uniform(len(image_BCHW), 2.5, 6.0, generator)
    grey_BCHW = image_BCHW.mean(dim=1, keepdim=True)
    saturated_BCHW = grey_BCHW + (image_BCHW - grey_BCHW) * contrast_B
    return 0.5 + (saturated_BCHW - 0.5) * contrast_B.sqrt()


def _smear(image_BCHW: Tensor, generator: Generator) -> Tensor:
    field_BCHW = torch.randn(len(image_BCHW), 3, 5, 5, generator=generator)
    stain_BCHW = F.interpolate(field_BCHW, size=image_BCHW.shape[-2:], mode="bicubic")
    return image_BCHW + stain_BCHW * _uniform(len(image_BCHW), 0.25, 0.6, generator)


_GROSS: Final[tuple[Callable[[Tensor, Generator], Tensor], ...]] = (_blend, _noise, _blur, _burn, _smear)


def gross(image_BCHW: Tensor, generator: Generator) -> Tensor:
    """Ruin a batch in one way drawn at random: blend two pictures, noise, blur, burn, or smear colours."""
    ruin = _GROSS[int(torch.randint(len(_GROSS), (1,), generator=generator))]
    return ruin(image_BCHW, generator).clamp(0.0, 1.0)
