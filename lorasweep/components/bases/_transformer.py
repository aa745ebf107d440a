"""Loaded bases with a transformer that is trained with flow matching.

`TransformerBase` is what they share: a Flow path, Euler, tokens in a row. One class a model says how its transformer
is asked and how its captions are read.

B batch, C latent channels, H W latent height and width, P image tokens, F numbers in one, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from lorasweep.components.bases._families import FLUX_SCOPES
from lorasweep.components.bases._loaded import LoadedBase
from lorasweep.components.bases._paths import Flow
from lorasweep.core.protocols import Text
from lorasweep.core.records import Frame


class TransformerBase(LoadedBase):
    """What flow-matching transformers have in common.

    A class of these has `pipeline`, `scopes`, `encode_captions` and `_velocity`.
    """

    patch = 2  # latents along the side of an image token

    def chunks(self, caption: str) -> int:
        """Captions are read in one piece, what goes beyond the tokenizer's length left out."""
        return 1

    def stack(self, rows: Sequence[Text], empty: Text) -> Text:
        """Put captions together, which are padded alike."""
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def predict(self, noisy_BCHW: torch.Tensor, t_B: torch.Tensor, text: Text, frames: Sequence[Frame]) -> torch.Tensor:
        """Ask the transformer; (B, C, H, W) fp32."""
        told = {name: tensor.to(self.device, self.dtype) for name, tensor in text.items()}
        return self._velocity(noisy_BCHW.to(self.device, self.dtype), t_B.to(self.device, self.dtype), told).float()

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        """Noise minus image, whatever sign and shape the transformer itself gives; (B, C, H, W)."""
        raise NotImplementedError

    def _blocks(self) -> list[torch.nn.Module]:
        """The transformer's blocks in the order in which they run."""
        return [*self.denoiser.transformer_blocks, *self.denoiser.single_transformer_blocks]

    def _path(self) -> Flow:
        return Flow.of(self.noise_schedule.config, latents_per_token=self.patch**2)

    def _middle(self) -> torch.nn.Module:
        blocks = self._blocks()
        return blocks[len(blocks) // 2]

    def _feature_map(self, output: tuple[torch.Tensor, torch.Tensor], noisy_BCHW: torch.Tensor) -> torch.Tensor:
        size = [side // self.patch for side in noisy_BCHW.shape[-2:]]
        return output[1].transpose(1, 2).unflatten(2, size)  # text tokens come first

    def _scheduler(self, sampler: str) -> Any:
        return type(self.noise_schedule).from_config(self.noise_schedule.config)

    def _pack(self, latent_BCHW: torch.Tensor) -> torch.Tensor:
        """Latents as a row of tokens, (B, P, F)."""
        return functional.pixel_unshuffle(latent_BCHW, self.patch).flatten(2).transpose(1, 2)

    def _unpack(self, tokens_BPF: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """The way back, for latents of (H, W)."""
        sides = [side // self.patch for side in size]
        return functional.pixel_shuffle(tokens_BPF.transpose(1, 2).unflatten(2, sides), self.patch)


class FluxBase(TransformerBase):
    """FLUX.1: one text encoder's pooled answer goes with the time, the other's tokens go beside the image's."""

    pipeline = "FluxPipeline"
    scopes = FLUX_SCOPES

    def encode_captions(self, captions: Sequence[str]) -> Text:
        """Encode captions to "embeds" (B, L, D) of the second encoder and "pooled" (B, P) of the first.

        Each is cut to its tokenizer's length. Gradients flow when a text encoder holds trainable weights and the
        caller has not switched them off.
        """
        pooled, hidden = (self._read(place, captions) for place in (0, 1))
        return {"embeds": hidden[0], "pooled": pooled.pooler_output}

    def reproduction(self, sampler: str, steps: int) -> dict[str, Any]:
        """See `protocols.Base`; the noise goes in as a row of tokens, and guidance under another name."""
        return {
            **super().reproduction(sampler, steps),
            "guidance": "true_cfg_scale",
            "max_sequence_length": self.tokenizers[1].model_max_length,
            "latents": "diffusers.FluxPipeline._pack_latents(noise, *noise.shape)",
        }

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        rows, columns = (torch.arange(side // self.patch, dtype=self.dtype) for side in noisy_BCHW.shape[-2:])
        places_P3 = torch.cartesian_prod(torch.zeros(1, dtype=self.dtype), rows, columns).to(self.device)
        answer_BPF = self.denoiser(
            hidden_states=self._pack(noisy_BCHW),
            timestep=level_B,
            encoder_hidden_states=text["embeds"],
            pooled_projections=text["pooled"],
            img_ids=places_P3,
            txt_ids=places_P3.new_zeros(text["embeds"].shape[1], 3),
            return_dict=False,
        )[0]
        return self._unpack(answer_BPF, noisy_BCHW.shape[-2:])

    def _read(self, place: int, captions: Sequence[str]) -> Any:
        tokenizer, encoder = self.tokenizers[place], self.text_encoders[place]
        ids_BL = tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt").input_ids
        encoder.to(self.device)
        said = encoder(ids_BL.to(self.device))
        if self.memory.offload_text_encoders:
            encoder.to("cpu")
        return said
