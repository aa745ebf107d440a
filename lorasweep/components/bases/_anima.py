"""Anima, loaded.

B batch, C latent channels, H W latent height and width, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lorasweep.components.bases._qwen_vae import QwenVae
from lorasweep.core.protocols import Text


class AnimaBase(QwenVae):
    """Anima: a Cosmos-Predict2 of one frame, told T5's tokens as a conditioner reads them beside a language model.

    Source: huggingface/diffusers, modular_pipelines/anima.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        # Where the frame is padded is told in another channel: nowhere. For zeros of another size the transformer
        # would ask torchvision, so `_velocity` gives them in the right size, as the channel of another use.
        self.denoiser.register_to_config(concat_padding_mask=False)

    def encode_captions(self, captions: Sequence[str]) -> Text:
        """Encode captions to "embeds" (B, L, D), which end in zeros; one by one, so that none depends on another."""
        rows = {caption: self._row(caption) for caption in dict.fromkeys(captions)}
        return self.stack([rows[caption] for caption in captions], {})

    def reproduction(self, sampler: str, steps: int) -> dict[str, Any]:
        """See `protocols.Base`; guidance is of its guider, and the noise has a frame."""
        return {
            **super().reproduction(sampler, steps),
            "guidance": "guider.guidance_scale",
            "max_sequence_length": self.tokenizers[0].model_max_length,
            "latents": "noise.unsqueeze(2)",
        }

    def _row(self, caption: str) -> Text:
        said, asked = (
            tokenizer([caption], truncation=True, return_tensors="pt").input_ids.long() for tokenizer in self.tokenizers
        )
        if said.shape[1] == 0:
            said = said.new_zeros(1, 1)
            states_1LD = self._hidden(0, said).last_hidden_state * 0
        else:
            states_1LD = self._hidden(0, said).last_hidden_state
        return {"embeds": self._hidden(1, states_1LD, target_input_ids=asked.to(self.device))[0]}

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        answer_BCFHW: torch.Tensor = self.denoiser(
            hidden_states=noisy_BCHW.unsqueeze(2),
            timestep=level_B.to(self.dtype),
            encoder_hidden_states=text["embeds"],
            condition_mask=torch.zeros_like(noisy_BCHW[:, :1, None]),
            return_dict=False,
        )[0]
        return answer_BCFHW.squeeze(2)
