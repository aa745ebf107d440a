"""The VAE of Qwen-Image, which Anima and Krea 2 have too: made for films, of which a picture is one frame.

B batch, C latent channels, H W latent height and width.
"""

from __future__ import annotations

from typing import Any

import torch

from lorasweep.components.bases._transformer import TransformerBase


class QwenVae(TransformerBase):
    """Encode and decode one frame; every channel of the latents has a mean and a deviation of its own."""

    def _posterior(self, pixels_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, std = super()._posterior(pixels_BCHW.unsqueeze(2))
        return mean.squeeze(2), std.squeeze(2)

    def _decoded(self, raw_BCHW: torch.Tensor) -> torch.Tensor:
        return super()._decoded(raw_BCHW.unsqueeze(2)).squeeze(2)

    def _affine(self, latent_BCHW: torch.Tensor) -> tuple[Any, Any]:
        config = self.vae.config
        mean, std = (
            latent_BCHW.new_tensor(each).view(1, -1, 1, 1) for each in (config.latents_mean, config.latents_std)
        )
        return mean, 1 / std
