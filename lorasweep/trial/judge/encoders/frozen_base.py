"""The base as a ruler: what its VAE and its denoiser make of a picture, cut into tiles.

Takes RGB pictures of one size, gives per tile the VAE latent and the denoiser's features, and the features of the
whole. Features are taken as in DIFT: noise the latent to an early timestep with a noise that is the same
for every picture, run one forward pass with an empty caption, and read the middle (`Base.features`).
Adapters must be silent (`lora_weight.lora_weight(base, adapter, 0.0)`); this module does not look for them.

Source: Tang et al., "Emergent correspondence from image diffusion" (arXiv 2306.03881), t = 261. Departure: one noise
instead of an ensemble of eight, since all pictures share it.

Letters: B pictures, C latent channels, H W latent size, T tiles, D numbers per tile.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorasweep.core import seeds
from lorasweep.core.protocols import Base, Text
from lorasweep.core.records import Frame, digest

if TYPE_CHECKING:
    import torch
    from PIL import Image


TIMESTEP = 261  # by Stable Diffusion's noise
TILES_PER_SIDE = 4  # 16 tiles, as Carlini et al. (arXiv 2301.13188) cut 512 px into 128 px


@dataclass(frozen=True)
class FrozenBase:
    """See `protocols.Encoder`; gives "latents" (B, T, C * h * w), "features" (B, T, D) and "whole" (B, D)."""

    base: Base

    @property
    def fingerprint(self) -> str:
        """Of the weights and of how they are asked."""
        base = self.base
        made_by = [base.fingerprint, base.text_fingerprint, str(base.dtype), base.device.type]
        return digest(["frozen_base", made_by, TIMESTEP, TILES_PER_SIDE])

    def encode(self, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """Encode pictures of one size."""
        import torch

        with torch.no_grad():
            latent_BCHW = self.base.encode_images(pixels(pictures))[0]
            feature_BDHW = self._features(latent_BCHW)
        return {
            "latents": latent_tiles(latent_BCHW.cpu()),
            "features": feature_tiles(feature_BDHW.cpu()),
            "whole": feature_BDHW.mean((2, 3)).cpu(),
        }

    def _features(self, latent_BCHW: torch.Tensor) -> torch.Tensor:
        """Return what the denoiser sees at the early timestep; (B, D, h, w) fp32."""
        noisy_BCHW, t_B, _ = noised(self.base, latent_BCHW, TIMESTEP, "frozen base's noise")
        texts = repeated(self._empty, len(latent_BCHW))
        return self.base.features(noisy_BCHW, t_B, texts, whole_frames(self.base, latent_BCHW))

    @functools.cached_property
    def _empty(self) -> Text:
        return self.base.encode_captions([""])


def noised(
    base: Base, latent_BCHW: torch.Tensor, timestep: int, *mark: str | int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise latents as a timestep of Stable Diffusion's does: noisy ones, t, and the noise, one for all by its mark."""
    import torch

    generator = torch.Generator("cpu").manual_seed(seeds.derive(0, *mark))
    noise_BCHW = torch.randn(latent_BCHW.shape[1:], generator=generator).to(latent_BCHW).expand_as(latent_BCHW)
    t_B = base.path.as_noisy_as(timestep).expand(len(latent_BCHW)).to(base.device)
    return base.path.add(latent_BCHW, noise_BCHW, t_B), t_B, noise_BCHW


def repeated(text: Text, count: int) -> Text:
    """Return one caption for many pictures."""
    return {name: tensor.expand(count, *tensor.shape[1:]) for name, tensor in text.items()}


def whole_frames(base: Base, latent_BCHW: torch.Tensor) -> list[Frame]:
    """Return frames of pictures that were drawn in their own size."""
    height, width = (side * base.latent.px for side in latent_BCHW.shape[2:])
    return [Frame.whole(width, height)] * len(latent_BCHW)


def pixels(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Return RGB pictures of one size as (B, 3, H, W) in [-1, 1]."""
    import numpy as np
    import torch

    stacked_BHWC = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    return torch.from_numpy(stacked_BHWC).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def latent_tiles(latent_BCHW: torch.Tensor) -> torch.Tensor:
    """Cut latents into a grid of tiles, what does not divide left out at the edges; (B, T, C * h * w).

    Of a side with fewer latents than tiles, neighbours share one.
    """
    import torch

    side = TILES_PER_SIDE
    enough = [max(size, side) for size in latent_BCHW.shape[2:]]
    latent_BCHW = torch.nn.functional.interpolate(latent_BCHW, enough, mode="nearest")
    height, width = (size // side for size in latent_BCHW.shape[2:])
    top, left = ((size - side * tile) // 2 for size, tile in zip(latent_BCHW.shape[2:], (height, width), strict=True))
    inner = latent_BCHW[:, :, top : top + side * height, left : left + side * width]
    tiles = inner.unflatten(2, (side, height)).unflatten(4, (side, width))  # B C side h side w
    return tiles.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2).contiguous()


def feature_tiles(feature_BDHW: torch.Tensor) -> torch.Tensor:
    """Mean feature of every tile of the grid; (B, T, D)."""
    import torch

    pooled = torch.nn.functional.adaptive_avg_pool2d(feature_BDHW, TILES_PER_SIDE)
    return pooled.flatten(2).transpose(1, 2).contiguous()
