"""How alike are pictures, given their features? Cosines that mean something; how many different ones.

Raw features of one model are nearly parallel, so they are first standardised by the base's own pictures: what
all pictures share goes, and every number weighs the same. Plain linear algebra; knows no encoder.

Letters: N and M pictures, R reference pictures, T tiles, D numbers per tile.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


ONE_PICTURE = "most of the base's pictures are one and the same"


def is_one_picture(reference_RTD: torch.Tensor) -> bool:
    """Tell whether most pictures are one and the same, so that they set no scale; R >= 2."""
    import torch

    flat_RD = reference_RTD.double().flatten(1)
    return bool(torch.pdist(flat_RD).median() <= 1e-6 * flat_RD.norm(dim=1).median())


def standardised(tiles_NTD: torch.Tensor, reference_RTD: torch.Tensor) -> torch.Tensor:
    """Subtract the reference's mean, tile by tile, and divide by its deviation from that, number by number; R >= 2.

    The mean is a tile's own, since all pictures share the noise that a UNet is asked with, place by place; the
    deviation is one for all tiles, so that few pictures do.
    """
    reference = reference_RTD.double()
    mean_TD = reference.mean(0)
    spread_D = (reference - mean_TD).square().mean((0, 1)).sqrt()
    # A number that never varies says nothing; dividing by its rounding noise would make it shout.
    spread_D = spread_D.clamp_min(1e-6 * max(float(spread_D.max()), 1e-12))
    return (tiles_NTD.double() - mean_TD) / spread_D


def tile_cosines(left_NTD: torch.Tensor, right_MTD: torch.Tensor) -> torch.Tensor:
    """Return cosine of every pair of pictures, tile by tile; (N, M, T) in [-1, 1]."""
    import torch

    unit = torch.nn.functional.normalize
    return torch.einsum("ntd,mtd->nmt", unit(left_NTD, dim=-1), unit(right_MTD, dim=-1))


def cosines(left_ND: torch.Tensor, right_MD: torch.Tensor) -> torch.Tensor:
    """Return cosine of every pair; (N, M) in [-1, 1]."""
    return tile_cosines(left_ND[:, None], right_MD[:, None])[:, :, 0]


def vendi(kernel_NN: torch.Tensor) -> float:
    """Return effective number of different pictures, in [1, N], by a positive semi-definite kernel, 1 on its diagonal.

    Source: Friedman and Dieng, "The Vendi score" (arXiv 2210.02410), eq. 2: exp(-sum l log l) over the eigenvalues l of
    K / n.
    """
    import torch

    if not kernel_NN.isfinite().all():
        return math.nan  # LAPACK would raise
    eigenvalues = torch.linalg.eigvalsh(kernel_NN.double() / len(kernel_NN)).clamp_min(0)
    return float(torch.special.entr(eigenvalues).sum().exp())
