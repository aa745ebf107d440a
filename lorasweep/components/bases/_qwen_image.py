"""Qwen-Image and Krea 2, loaded: one VAE, and one instruction by which a language model reads captions.

B batch, C latent channels, H W latent height and width, P image tokens, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lorasweep.components.bases._qwen_vae import QwenVae
from lorasweep.components.bases._transformer import LanguageModelBase
from lorasweep.core.protocols import Text

_BEFORE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n"
)
_AFTER = "<|im_end|>\n<|im_start|>assistant\n"
_INSTRUCTION = 34  # tokens of `_BEFORE`, as both count them
_ENDING = 5  # tokens of `_AFTER`


class QwenImageBase(QwenVae, LanguageModelBase):
    """Qwen-Image: a guided answer is as long as the one with the prompt, token by token.

    Source: huggingface/diffusers, pipelines/qwenimage/pipeline_qwenimage.py.
    """

    dropped = _INSTRUCTION

    def reproduction(self, sampler: str, steps: int) -> dict[str, Any]:
        """See `protocols.Base`; a negative prompt must be given, or nothing is guided."""
        return {
            **super().reproduction(sampler, steps),
            "guidance": "true_cfg_scale",
            "max_sequence_length": self.tokenizers[0].model_max_length,
            "latents": "pipeline._pack_latents(noise, *noise.shape)",
        }

    def guide(self, without: torch.Tensor, with_prompt: torch.Tensor, guidance: float) -> torch.Tensor:
        """See `protocols.Base`."""
        size = without.shape[-2:]
        tokens, wanted = self._pack(super().guide(without, with_prompt, guidance)), self._pack(with_prompt)
        return self._unpack(tokens * (wanted.norm(dim=-1, keepdim=True) / tokens.norm(dim=-1, keepdim=True)), size)

    def _tokens(self, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        (tokenizer,) = self.tokenizers
        most = tokenizer.model_max_length + self.dropped
        told = tokenizer(f"{_BEFORE}{caption}{_AFTER}", truncation=True, max_length=most, return_tensors="pt")
        return told.input_ids, told.attention_mask

    def _states(self, layers_1LD: Sequence[torch.Tensor]) -> torch.Tensor:
        return layers_1LD[-1]

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        height, width = (side // self.patch for side in noisy_BCHW.shape[-2:])
        answer_BPF = self.denoiser(
            hidden_states=self._pack(noisy_BCHW),
            timestep=level_B.to(self.dtype),
            encoder_hidden_states=text["embeds"],
            encoder_hidden_states_mask=None if text["mask"].all() else text["mask"],
            img_shapes=[[(1, height, width)]] * len(noisy_BCHW),
            return_dict=False,
        )[0]
        return self._unpack(answer_BPF, noisy_BCHW.shape[-2:])


class Krea2Base(QwenVae, LanguageModelBase):
    """Krea 2: told of twelve layers of the language model, whose text has no places.

    Source: huggingface/diffusers, pipelines/krea2/pipeline_krea2.py.
    """

    dropped = _INSTRUCTION
    layers = (2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35)

    def reproduction(self, sampler: str, steps: int) -> dict[str, Any]:
        """See `protocols.Base`; its pipeline goes on from the answer with the prompt, so that 0 guides nothing."""
        return {
            **super().reproduction(sampler, steps),
            "guidance": "guidance_scale, which is lower by 1",
            "max_sequence_length": self.tokenizers[0].model_max_length,
            "latents": "pipeline._pack_latents(noise, *noise.shape)",
        }

    def _tokens(self, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        """However long a caption is, its end is told."""
        (tokenizer,) = self.tokenizers
        after_1L = tokenizer(_AFTER, return_tensors="pt").input_ids
        most = tokenizer.model_max_length + self.dropped - _ENDING
        told_1L = tokenizer(f"{_BEFORE}{caption}", truncation=True, max_length=most, return_tensors="pt").input_ids
        ids_1L = torch.cat([told_1L, after_1L], dim=1)
        return ids_1L, torch.ones_like(ids_1L)

    def _states(self, layers_1LD: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack([layers_1LD[place] for place in self.layers], dim=2)

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        places_P3 = self._places(noisy_BCHW.shape[-2:], before=1, after=0).float()
        answer_BPF = self.denoiser(
            hidden_states=self._pack(noisy_BCHW),
            encoder_hidden_states=text["embeds"],
            timestep=level_B.to(self.dtype),
            position_ids=torch.cat([places_P3.new_zeros(text["embeds"].shape[1], 3), places_P3]),
            encoder_attention_mask=None if text["mask"].all() else text["mask"],
            return_dict=False,
        )[0]
        return self._unpack(answer_BPF, noisy_BCHW.shape[-2:])
