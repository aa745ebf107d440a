"""Loaded bases whose captions a language model reads, one class a model; those with Qwen's VAE are in `_qwen`.

B batch, C latent channels, H W latent height and width, P image tokens, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from lorasweep.components.bases._paths import Flow, Flux2Flow
from lorasweep.components.bases._transformer import TransformerBase
from lorasweep.core.protocols import Text
from lorasweep.core.records import Frame

# Their pipelines go on from the answer with the prompt, so that 0 guides nothing.
_ASSISTANT = (  # of Lumina 2
    "You are an assistant designed to generate superior images with the superior degree of image-text alignment based "
    "on textual prompts or user prompts."
)
_START = "<Prompt Start>"
LOWER_BY_1 = {"guidance": "guidance_scale, which is lower by 1"}


class LanguageModelBase(TransformerBase):
    """Captions are read by a language model: a chat, of which its states are taken.

    A class of these has `thinking`, `padded`, `dropped` and `_states`.
    """

    thinking = False  # whether the chat's template leaves room for thoughts
    padded = False  # whether the padding is part of what the transformer is told
    dropped = 0  # tokens in front, of which it is not told

    def _row(self, caption: str) -> Text:
        ids_1L, mask_1L = self._tokens(caption)
        mask_1L = mask_1L.to(self.device)
        said = self._hidden(0, ids_1L, attention_mask=mask_1L, output_hidden_states=True, use_cache=False)
        row = {"embeds": self._states(said.hidden_states)[0], "mask": mask_1L[0].bool()}
        return {name: row[name][self.dropped :] for name in (["embeds"] if self.padded else row)}

    def _tokens(self, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tokens of a caption within its chat, and which of them are no padding; (1, L)."""
        (tokenizer,) = self.tokenizers
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": caption}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=self.thinking,
        )
        told = tokenizer(
            asked,
            padding="max_length" if self.padded else False,
            truncation=True,
            padding_side="right",
            return_tensors="pt",
        )
        return told.input_ids, told.attention_mask

    def _states(self, layers_1LD: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return what the transformer is told of the states after each layer, those before the first one included."""
        raise NotImplementedError


class ZImageBase(LanguageModelBase):
    """Z-Image: time runs from noise to image, and its answer points to the image.

    Source: huggingface/diffusers, pipelines/z_image.
    """

    image_first = True
    thinking = True
    asked = LOWER_BY_1

    def _states(self, layers_1LD: Sequence[torch.Tensor]) -> torch.Tensor:
        return layers_1LD[-2]

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        lengths = text["mask"].sum(1).tolist()  # read at once; what is filled up is behind
        captions = [row_LD[:length] for row_LD, length in zip(text["embeds"], lengths, strict=True)]
        to_image = self.denoiser([*noisy_BCHW.unsqueeze(2)], 1 - level_B, captions, return_dict=False)[0]
        return -torch.stack(to_image).squeeze(2)

    def _blocks(self) -> list[torch.nn.Module]:
        return [*self.denoiser.layers]


class Lumina2Base(LanguageModelBase):
    """Lumina-Image 2: as Z-Image's its time runs from noise to image; rows of a guided answer keep their length.

    Captions stand behind what the assistant is to do, unless they bring that themselves, up to "<Prompt Start>"; the
    empty one stands alone, as the pipeline's negative prompt does.

    Source: huggingface/diffusers, pipelines/lumina2/pipeline_lumina2.py.
    """

    asked = {"negative_prompt": "what prompts are told in front of them is in front of this too, unless it is empty"}

    def guide(self, without: torch.Tensor, with_prompt: torch.Tensor, guidance: float) -> torch.Tensor:
        """See `protocols.Base`."""
        guided = super().guide(without, with_prompt, guidance)
        return guided * (with_prompt.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))

    def features(
        self, noisy_BCHW: torch.Tensor, t_B: torch.Tensor, text: Text, frames: Sequence[Frame]
    ) -> torch.Tensor:
        """See `protocols.Base`."""
        return by_length(super().features, noisy_BCHW, t_B, text, frames)  # filling would be behind the image

    def _tokens(self, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        (tokenizer,) = self.tokenizers
        asked = f"{_ASSISTANT} {_START} {caption}" if caption and _START not in caption else caption
        told = tokenizer(asked, truncation=True, return_tensors="pt")
        return told.input_ids, told.attention_mask

    def _states(self, layers_1LD: Sequence[torch.Tensor]) -> torch.Tensor:
        return layers_1LD[-2]

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        to_image: torch.Tensor = self.denoiser(
            hidden_states=noisy_BCHW.contiguous(),
            timestep=1 - level_B,
            encoder_hidden_states=text["embeds"],
            encoder_attention_mask=text["mask"],
            return_dict=False,
        )[0]
        return -to_image

    def _blocks(self) -> list[torch.nn.Module]:
        return [*self.denoiser.layers]


class Flux2KleinBase(LanguageModelBase):
    """FLUX.2 klein: told the padding of captions too, and the size of every place of an image token is known by itself.

    Source: huggingface/diffusers, pipelines/flux2/pipeline_flux2_klein.py.
    """

    padded = True
    asked = {"latents": "torch.nn.functional.pixel_unshuffle(noise, 2)"}  # a token's four latents as channels
    layers = (9, 18, 27)  # of the language model: the transformer is told the states after these, side by side

    def _states(self, layers_1LD: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat([layers_1LD[place] for place in self.layers], dim=-1)

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        places_P4 = self._places(noisy_BCHW.shape[-2:], after=1)
        order_L = torch.arange(text["embeds"].shape[1], device=self.device, dtype=self.dtype)
        return self._ask(
            noisy_BCHW,
            level_B,
            text,
            guidance=None,
            img_ids=places_P4,
            txt_ids=functional.pad(order_L[:, None], (3, 0)),
        )

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
        return (Flux2Flow if config.use_dynamic_shifting else Flow).of(config, latents_per_token=self.patch**2)


def by_length(
    ask: Callable[[torch.Tensor, torch.Tensor, Text, Sequence[Frame]], torch.Tensor],
    noisy_BCHW: torch.Tensor,
    t_B: torch.Tensor,
    text: Text,
    frames: Sequence[Frame],
) -> torch.Tensor:
    """Ask with captions of one length at a time, so that nothing is filled up; the answers in the order of rows."""
    lengths: list[int] = text["mask"].sum(1).tolist()
    found: dict[int, torch.Tensor] = {}
    for length in dict.fromkeys(lengths):
        rows = [row for row, each in enumerate(lengths) if each == length]
        told = {name: tensor[rows, :length] for name, tensor in text.items()}
        answers = ask(noisy_BCHW[rows], t_B[rows], told, [frames[row] for row in rows])
        found |= zip(rows, answers, strict=True)
    return torch.stack([found[row] for row in range(len(lengths))])
