"""FLUX.2 klein, loaded.

B batch, C latent channels, H W latent height and width, P image tokens, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from lorasweep.components.bases._paths import Flow, Flux2Flow
from lorasweep.components.bases._transformer import LanguageModelBase
from lorasweep.core.protocols import Text

_LAYERS = (9, 18, 27)  # of the language model: the transformer is told the states after these, side by side


class Flux2KleinBase(LanguageModelBase):
    """FLUX.2 klein: told the padding of captions too, and the size of every place of an image token is known by itself.

    Source: huggingface/diffusers, pipelines/flux2/pipeline_flux2_klein.py.
    """

    padded = True

    def reproduction(self, sampler: str, steps: int) -> dict[str, Any]:
        """See `protocols.Base`; the noise goes in with the four latents of a token as channels."""
        return {
            **super().reproduction(sampler, steps),
            "max_sequence_length": self.tokenizers[0].model_max_length,
            "latents": "torch.nn.functional.pixel_unshuffle(noise, 2)",
        }

    def _states(self, layers_1LD: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat([layers_1LD[place] for place in _LAYERS], dim=-1)

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        places_P4 = self._places(noisy_BCHW.shape[-2:], before=1, after=1)
        order_L = torch.arange(text["embeds"].shape[1], device=self.device, dtype=self.dtype)
        answer_BPF = self.denoiser(
            hidden_states=self._pack(noisy_BCHW),
            timestep=level_B.to(self.dtype),
            guidance=None,
            encoder_hidden_states=text["embeds"],
            img_ids=places_P4,
            txt_ids=functional.pad(order_L[:, None], (3, 0)),
            return_dict=False,
        )[0]
        return self._unpack(answer_BPF, noisy_BCHW.shape[-2:])

    def _affine(self, latent_BCHW: torch.Tensor) -> tuple[Any, Any]:
        """Mean and deviation of each channel at each of the four places in a token, which the VAE's norm holds."""
        height, width = (side // self.patch for side in latent_BCHW.shape[-2:])
        norm = self.vae.bn
        mean, std = norm.running_mean, (norm.running_var + self.vae.config.batch_norm_eps).sqrt()
        shift, deviation = (
            functional.pixel_shuffle(each.view(1, -1, 1, 1).expand(-1, -1, height, width), self.patch)
            for each in (mean, std)
        )
        return shift, 1 / deviation

    def _path(self) -> Flow:
        config = self.noise_schedule.config
        path = super()._path()
        return Flux2Flow(path.shifts, path.latents_per_token) if config.use_dynamic_shifting else path
