"""Z-Image, loaded.

B batch, C latent channels, H W latent height and width, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lorasweep.components.bases._transformer import LanguageModelBase
from lorasweep.core.protocols import Text


class ZImageBase(LanguageModelBase):
    """Z-Image: time runs from noise to image, and its answer points to the image.

    Source: huggingface/diffusers, pipelines/z_image.
    """

    image_first = True
    thinking = True

    def reproduction(self, sampler: str, steps: int) -> dict[str, Any]:
        """See `protocols.Base`; its pipeline goes on from the answer with the prompt, so that 0 guides nothing."""
        return {
            **super().reproduction(sampler, steps),
            "guidance": "guidance_scale, which is lower by 1",
            "max_sequence_length": self.tokenizers[0].model_max_length,
        }

    def _states(self, layers_1LD: Sequence[torch.Tensor]) -> torch.Tensor:
        return layers_1LD[-2]

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        lengths = text["mask"].sum(1).tolist()  # read at once; what is filled up is behind
        captions = [row_LD[:length] for row_LD, length in zip(text["embeds"], lengths, strict=True)]
        to_image = self.denoiser([*noisy_BCHW.unsqueeze(2)], 1 - level_B, captions, return_dict=False)[0]
        return -torch.stack(to_image).squeeze(2)

    def _blocks(self) -> list[torch.nn.Module]:
        return [*self.denoiser.layers]
