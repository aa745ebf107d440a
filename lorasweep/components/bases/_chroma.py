"""Chroma, loaded: a FLUX.1 without pooled text and guidance.

B batch, C latent channels, H W latent height and width, P image tokens, L text tokens, D width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from lorasweep.components.bases._transformer import TransformerBase
from lorasweep.core.protocols import Text

# diffusers multiplies the masks of queries and keys and adds that to the scores: a word asks every word and no padding,
# padding asks padding alone, so that no row is empty; the product is within fp16.
_WORD, _PADDING = 1.0, -200.0


class ChromaBase(TransformerBase):
    """Chroma: T5's states of the words and of one token of padding behind them.

    Departure from huggingface/diffusers, pipelines/chroma, which keeps all padding and adds 0 and 1 to the scores for a
    mask, so that padding is asked at 1 / e of a word's weight; Chroma was trained with it left out.
    """

    def encode_captions(self, captions: Sequence[str]) -> Text:
        """Encode captions to "embeds" (B, L, D) and a "mask" (B, L); one by one, so that none depends on another."""
        rows = {caption: self._row(caption) for caption in dict.fromkeys(captions)}
        return self.stack([rows[caption] for caption in captions], {})

    def reproduction(self, sampler: str, steps: int) -> dict[str, Any]:
        """See `protocols.Base`; the noise goes in as a row of tokens, and the mask of the pipeline must be boolean."""
        return {
            **super().reproduction(sampler, steps),
            "max_sequence_length": self.tokenizers[0].model_max_length,
            "latents": "pipeline._pack_latents(noise, *noise.shape)",
            "attention_mask": "boolean: what pipeline._prepare_attention_mask gives, with .bool()",
        }

    def _row(self, caption: str) -> Text:
        (tokenizer,) = self.tokenizers
        told = tokenizer([caption], truncation=True, return_tensors="pt")
        room = told.input_ids.shape[1] < tokenizer.model_max_length
        ids_1L = functional.pad(told.input_ids, (0, int(room)), value=tokenizer.pad_token_id)
        mask_1L = functional.pad(told.attention_mask, (0, int(room))).to(self.device)
        embeds_LD = self._hidden(0, ids_1L, attention_mask=mask_1L).last_hidden_state[0]
        return {"embeds": embeds_LD, "mask": torch.ones_like(mask_1L[0], dtype=torch.bool)}

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        places_P3 = self._places(noisy_BCHW.shape[-2:], before=1, after=0)
        mask = None
        if not text["mask"].all():
            mask_BL = torch.where(text["mask"], _WORD, _PADDING).to(self.dtype)
            mask = functional.pad(mask_BL, (0, len(places_P3)), value=_WORD)
        if self.denoiser.gradient_checkpointing:
            self._checkpoint_with(mask)
        answer_BPF = self.denoiser(
            hidden_states=self._pack(noisy_BCHW),
            timestep=level_B.to(self.dtype),
            encoder_hidden_states=text["embeds"],
            img_ids=places_P3,
            txt_ids=places_P3.new_zeros(text["embeds"].shape[1], 3),
            attention_mask=mask,
            return_dict=False,
        )[0]
        return self._unpack(answer_BPF, noisy_BCHW.shape[-2:])

    def _checkpoint_with(self, mask: torch.Tensor | None) -> None:
        """Hand the mask on to single blocks, which diffusers 0.42.1 forgets with gradient checkpointing."""
        held = self.denoiser._gradient_checkpointing_func
        plain = held.keywords["plain"] if isinstance(held, functools.partial) and "plain" in held.keywords else held
        singles = set(self.denoiser.single_transformer_blocks)
        self.denoiser._gradient_checkpointing_func = functools.partial(
            _checkpoint, plain=plain, singles=singles, mask=mask
        )


def _checkpoint(
    block: torch.nn.Module, *inputs: Any, plain: Callable[..., Any], singles: set[torch.nn.Module], mask: Any
) -> Any:
    return plain(block, *inputs, mask) if block in singles else plain(block, *inputs)
