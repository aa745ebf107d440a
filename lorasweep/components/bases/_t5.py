"""Loaded bases whose captions T5 or CLIP read, one class a model.

B batch, C latent channels, H W latent height and width, P image tokens, L text tokens, D width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from lorasweep.components.bases._paths import StableDiffusion3Flow
from lorasweep.components.bases._transformer import PACKED, TransformerBase
from lorasweep.core.protocols import Text

# diffusers multiplies the masks of queries and keys and adds that to the scores: a word asks every word and no padding,
# padding asks padding alone, so that no row is empty; the product is within fp16.
_WORD, _PADDING = 1.0, -200.0


class FluxBase(TransformerBase):
    """FLUX.1: one text encoder's pooled answer goes with the time, the other's tokens go beside the image's."""

    asked = {"latents": "diffusers.FluxPipeline._pack_latents(noise, *noise.shape)"}

    def encode_captions(self, captions: Sequence[str]) -> Text:
        """Encode captions to "embeds" (B, L, D) of the second encoder and "pooled" (B, P) of the first.

        Each is cut to its tokenizer's length. Gradients flow when a text encoder holds trainable weights and the
        caller has not switched them off.
        """
        pooled, hidden = (self._read(place, captions) for place in (0, 1))
        return {"embeds": hidden[0], "pooled": pooled.pooler_output}

    @property
    def embeds_guidance(self) -> bool:  # type: ignore[override]
        """See `protocols.Base`: FLUX.1 dev does."""
        return bool(self.denoiser.config.guidance_embeds)

    def reproduction(self, sampler: str, steps: int) -> dict[str, Any]:
        """See `protocols.Base`; guidance goes in under another name."""
        guidance = "guidance_scale" if self.embeds_guidance else "true_cfg_scale"
        return {**super().reproduction(sampler, steps), "guidance": guidance}

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        places_P3 = self._places(noisy_BCHW.shape[-2:])
        level_B = level_B.to(self.dtype)
        guidance_B = text.get("guidance", torch.ones_like(level_B)) if self.embeds_guidance else None
        return self._ask(
            noisy_BCHW,
            level_B,
            text,
            guidance=guidance_B,
            pooled_projections=text["pooled"],
            img_ids=places_P3,
            txt_ids=places_P3.new_zeros(text["embeds"].shape[1], 3),
        )


class ChromaBase(TransformerBase):
    """Chroma: T5's states of the words and of one token of padding behind them.

    Departure from huggingface/diffusers, pipelines/chroma, which keeps all padding and adds 0 and 1 to the scores for a
    mask, so that padding is asked at 1 / e of a word's weight; Chroma was trained with it left out.
    """

    asked = PACKED | {"attention_mask": "boolean: what pipeline._prepare_attention_mask gives, with .bool()"}

    def _row(self, caption: str) -> Text:
        (tokenizer,) = self.tokenizers
        told = tokenizer([caption], truncation=True, return_tensors="pt")
        room = told.input_ids.shape[1] < tokenizer.model_max_length
        ids_1L = functional.pad(told.input_ids, (0, int(room)), value=tokenizer.pad_token_id)
        mask_1L = functional.pad(told.attention_mask, (0, int(room))).to(self.device)
        embeds_LD = self._hidden(0, ids_1L, attention_mask=mask_1L).last_hidden_state[0]
        return {"embeds": embeds_LD, "mask": torch.ones_like(mask_1L[0], dtype=torch.bool)}

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        places_P3 = self._places(noisy_BCHW.shape[-2:])
        mask = None
        if not text["mask"].all():
            mask_BL = torch.where(text["mask"], _WORD, _PADDING).to(self.dtype)
            mask = functional.pad(mask_BL, (0, len(places_P3)), value=_WORD)
        if self.denoiser.gradient_checkpointing:
            self._checkpoint_with(mask)
        return self._ask(
            noisy_BCHW,
            level_B,
            text,
            img_ids=places_P3,
            txt_ids=places_P3.new_zeros(text["embeds"].shape[1], 3),
            attention_mask=mask,
        )

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


class StableDiffusion3Base(TransformerBase):
    """Stable Diffusion 3.5: two CLIPs side by side and then T5, padding included; time in thousandths.

    Source: huggingface/diffusers, pipelines/stable_diffusion_3.
    """

    flow = StableDiffusion3Flow
    asked = {"clip_skip": None}

    def encode_captions(self, captions: Sequence[str]) -> Text:
        """Encode captions to "embeds" (B, L, D) of all three encoders and "pooled" (B, P) of both CLIPs."""
        first, second = (self._read(place, captions, output_hidden_states=True) for place in (0, 1))
        t5_BLD = self._read(2, captions).last_hidden_state
        clips_BLD = torch.cat([each.hidden_states[-2] for each in (first, second)], dim=-1)
        wide_BLD = functional.pad(clips_BLD, (0, t5_BLD.shape[-1] - clips_BLD.shape[-1]))
        pooled_BP = torch.cat([first.text_embeds, second.text_embeds], dim=-1)
        return {"embeds": torch.cat([wide_BLD, t5_BLD], dim=1), "pooled": pooled_BP}

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        return self.denoiser(
            hidden_states=noisy_BCHW,
            timestep=level_B * 1000,
            encoder_hidden_states=text["embeds"],
            pooled_projections=text["pooled"],
            return_dict=False,
        )[0]
