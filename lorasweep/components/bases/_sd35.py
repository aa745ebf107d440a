"""Stable Diffusion 3.5, loaded.

B batch, C latent channels, H W latent height and width, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from lorasweep.components.bases._paths import Flow, StableDiffusion3Flow
from lorasweep.components.bases._transformer import TransformerBase
from lorasweep.core.protocols import Text


class StableDiffusion3Base(TransformerBase):
    """Stable Diffusion 3.5: two CLIPs side by side and then T5, padding included; time in thousandths.

    Source: huggingface/diffusers, pipelines/stable_diffusion_3.
    """

    def encode_captions(self, captions: Sequence[str]) -> Text:
        """Encode captions to "embeds" (B, L, D) of all three encoders and "pooled" (B, P) of both CLIPs."""
        first, second = (self._read(place, captions, output_hidden_states=True) for place in (0, 1))
        t5_BLD = self._read(2, captions).last_hidden_state
        clips_BLD = torch.cat([each.hidden_states[-2] for each in (first, second)], dim=-1)
        wide_BLD = functional.pad(clips_BLD, (0, t5_BLD.shape[-1] - clips_BLD.shape[-1]))
        pooled_BP = torch.cat([first.text_embeds, second.text_embeds], dim=-1)
        return {"embeds": torch.cat([wide_BLD, t5_BLD], dim=1), "pooled": pooled_BP}

    def reproduction(self, sampler: str, steps: int) -> dict[str, Any]:
        """See `protocols.Base`."""
        return {
            **super().reproduction(sampler, steps),
            "clip_skip": None,
            "max_sequence_length": self.tokenizers[2].model_max_length,
        }

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        answer_BCHW: torch.Tensor = self.denoiser(
            hidden_states=noisy_BCHW,
            timestep=level_B * 1000,
            encoder_hidden_states=text["embeds"],
            pooled_projections=text["pooled"],
            return_dict=False,
        )[0]
        return answer_BCHW

    def _path(self) -> Flow:
        path = super()._path()
        return StableDiffusion3Flow(path.shifts, path.latents_per_token)
