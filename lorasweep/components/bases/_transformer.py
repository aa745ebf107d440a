"""What bases share whose transformer is trained with flow matching; their classes: `_t5`, `_language` and `_qwen`.

B batch, C latent channels, H W latent height and width, P image tokens, F numbers in one, L text tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from lorasweep.components.bases._loaded import LoadedBase
from lorasweep.components.bases._paths import SPACINGS, Flow
from lorasweep.core.protocols import Text
from lorasweep.core.records import Frame

_DRAWN_BY = (  # of a scheduler's config; other ways to place levels are not followed
    "num_train_timesteps",
    "shift",
    "use_dynamic_shifting",
    "base_shift",
    "max_shift",
    "base_image_seq_len",
    "max_image_seq_len",
    "shift_terminal",
)
PACKED = {"latents": "pipeline._pack_latents(noise, *noise.shape)"}  # the noise goes in as a row of tokens
_SPACED_BY = tuple(f"use_{name}_sigmas" for name in SPACINGS)


class TransformerBase(LoadedBase):
    """A Flow path, tokens in a row, captions read one by one.

    A class of these has `_velocity`, and `_row` or an `encode_captions` of its own.
    """

    patch = 2  # latents along the side of an image token
    blocks: Sequence[str] = ("transformer_blocks", "single_transformer_blocks")  # of the transformer, as they run
    image_first = False  # whether the image's tokens come before those of the text
    flow = Flow
    asked: Mapping[str, Any] = {}  # of `reproduction`: how diffusers' pipeline wants to be asked
    longest: int | None = -1  # the tokenizer whose length is the pipeline's `max_sequence_length`, if it has that

    def encode_captions(self, captions: Sequence[str]) -> Text:
        """Encode captions to "embeds" (B, L, D), and a "mask" (B, L) where what is filled up does not count."""
        rows = {caption: self._row(caption) for caption in dict.fromkeys(captions)}
        return self.stack([rows[caption] for caption in captions], {})

    def chunks(self, caption: str) -> int:
        """Return 1: captions are read in one piece, what goes beyond the tokenizer's length left out."""
        return 1

    def stack(self, rows: Sequence[Text], empty: Text) -> Text:
        """Put captions together; shorter ones are filled up with zeros, which their masks leave out."""
        return {name: pad_sequence([row[name] for row in rows], batch_first=True) for name in rows[0]}

    def _answer(self, noisy_BCHW: torch.Tensor, t_B: torch.Tensor, text: Text, frames: Sequence[Frame]) -> torch.Tensor:
        told = {
            name: tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)
            for name, tensor in text.items()
        }
        return self._velocity(noisy_BCHW.to(self.device, self.dtype), t_B.to(self.device).float(), told).float()

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        """Return noise minus image, whatever sign and shape the transformer gives; (B, C, H, W). Levels are fp32."""
        raise NotImplementedError

    def _row(self, caption: str) -> Text:
        """Return what a caption alone is encoded to, (L, ...), so that it does not depend on what it is read with."""
        raise NotImplementedError

    def _ask(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text, **own: Any) -> torch.Tensor:
        """Ask a transformer that takes and gives latents as a row of tokens."""
        answer_BPF = self.denoiser(
            hidden_states=self._pack(noisy_BCHW),
            timestep=level_B.to(self.dtype),
            encoder_hidden_states=text["embeds"],
            return_dict=False,
            **own,
        )[0]
        return self._unpack(answer_BPF, noisy_BCHW.shape[-2:])

    def _hidden(self, place: int, ids_BL: torch.Tensor, **how: Any) -> Any:
        """Return what a text encoder makes of tokens."""
        encoder = self.text_encoders[place].to(self.device)
        said = encoder(ids_BL.to(self.device), **how)
        if self.memory.offload_text_encoders:
            encoder.to("cpu")
        return said

    def _read(self, place: int, captions: Sequence[str], **how: Any) -> Any:
        """Return what a text encoder makes of captions, cut to the length of its tokenizer or filled up to it."""
        told = self.tokenizers[place](list(captions), padding="max_length", truncation=True, return_tensors="pt")
        return self._hidden(place, told.input_ids, **how)

    def _blocks(self) -> list[torch.nn.Module]:
        """Return the transformer's blocks in the order in which they run."""
        return [block for name in self.blocks for block in getattr(self.denoiser, name, ())]

    def _path(self) -> Flow:
        return self.flow.of(self.noise_schedule.config, latents_per_token=self.patch**2)

    def _middle(self) -> torch.nn.Module:
        blocks = self._blocks()
        return blocks[len(blocks) // 2]

    def _feature_map(self, output: Any, noisy_BCHW: torch.Tensor) -> torch.Tensor:
        tokens_BLD: torch.Tensor = output[1] if isinstance(output, tuple) else output
        size = [side // self.patch for side in noisy_BCHW.shape[-2:]]
        count = size[0] * size[1]
        image_BPD = tokens_BLD[:, :count] if self.image_first else tokens_BLD[:, -count:]
        return image_BPD.transpose(1, 2).unflatten(2, size)

    def reproduction(self, sampler: str, steps: int) -> dict[str, Any]:
        """See `protocols.Base`."""
        found = {**super().reproduction(sampler, steps), **self.asked}
        if self.longest is not None:
            found["max_sequence_length"] = self.tokenizers[self.longest].model_max_length
        if sampler == "dpmpp_2m":  # which diffusers rounds down to whole ones
            found["timesteps"] = "scheduler.sigmas[:-1] * scheduler.config.num_train_timesteps"
        return found

    def _scheduler(self, sampler: str) -> Any:
        config = {key: self.noise_schedule.config[key] for key in _DRAWN_BY}
        if sampler != "dpmpp_2m":
            spaced = {key: self.noise_schedule.config.get(key, False) for key in _SPACED_BY}
            return type(self.noise_schedule).from_config({**config, **spaced})
        if not config["use_dynamic_shifting"]:  # pipelines insist on one
            config = {**config, "base_shift": math.log(config["shift"]), "max_shift": math.log(config["shift"])}
        how = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "use_dynamic_shifting": True}
        return diffusers.DPMSolverMultistepScheduler.from_config({**config, **how})

    def _pack(self, latent_BCHW: torch.Tensor) -> torch.Tensor:
        """Return latents as a row of tokens, (B, P, F)."""
        return functional.pixel_unshuffle(latent_BCHW, self.patch).flatten(2).transpose(1, 2)

    def _unpack(self, tokens_BPF: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """Return the way back, for latents of (H, W)."""
        sides = [side // self.patch for side in size]
        return functional.pixel_shuffle(tokens_BPF.transpose(1, 2).unflatten(2, sides), self.patch)

    def _places(self, size: torch.Size, *, after: int = 0) -> torch.Tensor:
        """Return each image token's row and column, of latents (H, W), behind a zero, before others; (P, 3 + after)."""
        sides = (torch.arange(side // self.patch, dtype=self.dtype, device=self.device) for side in size)
        return functional.pad(torch.cartesian_prod(*sides), (1, after))
