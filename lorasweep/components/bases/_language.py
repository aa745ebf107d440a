"""Loaded bases whose captions a language model reads, one class a model; those with Qwen's VAE are in `_qwen`.

B batch, C latent channels, H W latent height and width, P image tokens, L text tokens, D width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from lorasweep.components.bases._files import vae_px
from lorasweep.components.bases._paths import Flow, Flux2Flow, Ideogram4Flow
from lorasweep.components.bases._transformer import TransformerBase
from lorasweep.core.protocols import Text
from lorasweep.core.records import Frame

_ASSISTANT = (  # of Lumina 2
    "You are an assistant designed to generate superior images with the superior degree of image-text alignment based "
    "on textual prompts or user prompts."
)
_START = "<Prompt Start>"
# Their pipelines go on from the answer with the prompt, so that 0 guides nothing.
LOWER_BY_1 = {"guidance": "guidance_scale, which is lower by 1"}
# Of Ideogram 4's tokens: where those of the image begin, and what each kind is called.
_FIRST_PLACE, _FILLED, _IMAGE, _WORD = 65536, -1, 2, 3
_UNSHUFFLED = {"latents": "torch.nn.functional.pixel_unshuffle(noise, 2)"}  # a token's four latents as channels


class LanguageModelBase(TransformerBase):
    """Captions are read by a language model: a chat, of which its states are taken.

    A class of these has `thinking`, `padded`, `dropped` and `state`, or an `_asked` and `_states` of its own.
    """

    thinking = False  # whether the chat's template leaves room for thoughts
    padded = False  # whether the padding is part of what the transformer is told
    dropped = 0  # tokens in front, of which it is not told
    state = -2  # those after which layer it is told

    def _row(self, caption: str) -> Text:
        ids_1L, mask_1L = self._tokens(caption)
        mask_1L = mask_1L.to(self.device)
        said = self._hidden(0, ids_1L, attention_mask=mask_1L, output_hidden_states=True, use_cache=False)
        row = {"embeds": self._states(said.hidden_states)[0], "mask": mask_1L[0].bool()}
        return {name: row[name][self.dropped :] for name in (["embeds"] if self.padded else row)}

    def _tokens(self, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tokens of a caption within its chat, and which of them are no padding; (1, L)."""
        (tokenizer,) = self.tokenizers
        told = tokenizer(
            self._asked(caption),
            padding="max_length" if self.padded else False,
            truncation=True,
            max_length=tokenizer.model_max_length + self.dropped,
            padding_side="right",
            return_tensors="pt",
        )
        return told.input_ids, told.attention_mask

    def _asked(self, caption: str) -> str:
        """Return a caption within its chat."""
        asked: str = self.tokenizers[0].apply_chat_template(
            [{"role": "user", "content": caption}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=self.thinking,
        )
        return asked

    def _states(self, layers_1LD: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return what the transformer is told of the states after each layer, those before the first one included."""
        return layers_1LD[self.state]


class ZImageBase(LanguageModelBase):
    """Z-Image: time runs from noise to image, and its answer points to the image.

    Source: huggingface/diffusers, pipelines/z_image.
    """

    blocks = ("layers",)
    image_first = True
    thinking = True
    asked = LOWER_BY_1

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        lengths = text["mask"].sum(1).tolist()  # read at once; what is filled up is behind
        captions = [row_LD[:length] for row_LD, length in zip(text["embeds"], lengths, strict=True)]
        to_image = self.denoiser([*noisy_BCHW.unsqueeze(2)], 1 - level_B, captions, return_dict=False)[0]
        return -torch.stack(to_image).squeeze(2)


class Lumina2Base(LanguageModelBase):
    """Lumina-Image 2: as Z-Image's its time runs from noise to image; rows of a guided answer keep their length.

    Captions stand behind what the assistant is to do, unless they bring that themselves, up to "<Prompt Start>"; the
    empty one stands alone, as the pipeline's negative prompt does.

    Source: huggingface/diffusers, pipelines/lumina2/pipeline_lumina2.py.
    """

    blocks = ("layers",)
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

    def _asked(self, caption: str) -> str:
        return f"{_ASSISTANT} {_START} {caption}" if caption and _START not in caption else caption

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        to_image: torch.Tensor = self.denoiser(
            hidden_states=noisy_BCHW.contiguous(),
            timestep=1 - level_B,
            encoder_hidden_states=text["embeds"],
            encoder_attention_mask=text["mask"],
            return_dict=False,
        )[0]
        return -to_image


class Flux2Vae(TransformerBase):
    """The VAE of FLUX.2: what stands at the four places of an image token are its channels, normed as such."""

    def _affine(self, latent_BCHW: torch.Tensor) -> tuple[Any, Any]:
        """Mean and deviation of each channel at each of the four places in a token, which the VAE's norm holds."""
        height, width = (side // self.patch for side in latent_BCHW.shape[-2:])
        norm = self.vae.bn
        mean, std = (self._by_channel(each) for each in (norm.running_mean, (norm.running_var + self._norm_eps).sqrt()))
        shift, deviation = (
            functional.pixel_shuffle(each.view(1, -1, 1, 1).expand(-1, -1, height, width), self.patch)
            for each in (mean, std)
        )
        return shift, 1 / deviation

    def _by_channel(self, stats_F: torch.Tensor) -> torch.Tensor:
        """Return the VAE's numbers with the four places of each channel side by side."""
        return stats_F

    @property
    def _norm_eps(self) -> float:
        return float(self.vae.config.batch_norm_eps)


class Flux2KleinBase(Flux2Vae, LanguageModelBase):
    """FLUX.2 klein: told the padding of captions too, and the size of every place of an image token is known by itself.

    Source: huggingface/diffusers, pipelines/flux2/pipeline_flux2_klein.py.
    """

    padded = True
    asked = _UNSHUFFLED
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

    def _path(self) -> Flow:
        config = self.noise_schedule.config
        return (Flux2Flow if config.use_dynamic_shifting else Flow).of(config, latents_per_token=self.patch**2)


class ErnieImageBase(Flux2Vae, LanguageModelBase):
    """ERNIE-Image: captions as they are, without a chat; time in thousandths.

    Source: huggingface/diffusers, pipelines/ernie_image, whose prompts a further model may rewrite: not here.
    """

    blocks = ("layers",)
    image_first = True
    asked = _UNSHUFFLED | {"use_pe": False}
    longest = None

    def _tokens(self, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        (tokenizer,) = self.tokenizers
        ids = tokenizer(caption, truncation=True).input_ids or [tokenizer.bos_token_id or 0]
        return torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long)

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        answer_BFHW = self.denoiser(
            hidden_states=functional.pixel_unshuffle(noisy_BCHW, self.patch),
            timestep=level_B * 1000,
            text_bth=text["embeds"],
            text_lens=text["mask"].sum(1),
            return_dict=False,
        )[0]
        return functional.pixel_shuffle(answer_BFHW, self.patch)

    def _feature_map(self, output: Any, noisy_BCHW: torch.Tensor) -> torch.Tensor:
        return super()._feature_map(output.transpose(0, 1), noisy_BCHW)  # blocks have the batch behind the tokens

    @property
    def _norm_eps(self) -> float:
        return 1e-5  # as it was trained, whatever its config says: so diffusers


class Ideogram4Base(Flux2Vae, LanguageModelBase):
    """Ideogram 4: told of thirteen layers of the language model; without a prompt another transformer answers.

    Time runs from noise to image, and its answer points to the image. An image token has its four places side by side,
    each with all channels.

    Source: huggingface/diffusers, pipelines/ideogram4, whose prompts a further model may rewrite: not here.
    """

    blocks = ("layers",)
    flow = Ideogram4Flow
    asked = {
        "guidance": "guidance_scale, with guidance_schedule=None",
        "latents": "pixel_unshuffle(noise, 2).unflatten(1, (-1, 4)).transpose(1, 2).flatten(1, 2).flatten(2).mT",
    }
    layers = (0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 35)  # after which states are taken

    def __post_init__(self) -> None:
        super().__post_init__()
        self.text_encoders[0].language_model.norm.register_forward_hook(undo)

    def unprompted(self, text: Text) -> Text:
        """See `protocols.Base`: no token at all, by which the other transformer is asked."""
        return {name: torch.zeros_like(tensor) for name, tensor in text.items()}

    def _tokens(self, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        (tokenizer,) = self.tokenizers
        messages = [{"role": "user", "content": [{"type": "text", "text": caption}]}]
        asked = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        told = tokenizer(asked, truncation=True, add_special_tokens=False, return_tensors="pt")
        return told.input_ids, told.attention_mask

    def _states(self, layers_1LD: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack([layers_1LD[place + 1] for place in self.layers], dim=-1).flatten(2)

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        if torch.is_grad_enabled() or (prompted_B := text["mask"].any(1)).all():
            return self._of(self.denoiser, noisy_BCHW, level_B, text)
        answer_BCHW = torch.empty_like(noisy_BCHW)
        for denoiser, rows_B in ((self.denoiser, prompted_B), (self.unconditional, ~prompted_B)):
            if rows_B.any():
                length = int(text["mask"][rows_B].sum(1).max())  # without prompts 0
                told = {name: tensor[rows_B, :length] for name, tensor in text.items()}
                answer_BCHW[rows_B] = self._of(denoiser, noisy_BCHW[rows_B], level_B[rows_B], told)
        return answer_BCHW

    def _of(self, denoiser: Any, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        """Ask one of the two, told the words, what fills them up, and the image's tokens."""
        mask_BL, places_P3 = text["mask"], self._places(noisy_BCHW.shape[-2:]).long() + _FIRST_PLACE
        length, batch = mask_BL.shape[1], len(noisy_BCHW)
        words_L3 = torch.arange(length, device=self.device)[:, None].expand(-1, 3)
        image_BP = torch.ones(batch, len(places_P3), dtype=torch.long, device=self.device)
        to_image_BLF = denoiser(
            hidden_states=functional.pad(self._pack(noisy_BCHW), (0, 0, length, 0)),
            timestep=1 - level_B.to(self.dtype),
            encoder_hidden_states=functional.pad(text["embeds"], (0, 0, 0, len(places_P3))),
            position_ids=torch.cat([words_L3, places_P3]).expand(batch, -1, -1),
            segment_ids=torch.cat([torch.where(mask_BL, 1, _FILLED), image_BP], dim=1),
            indicator=torch.cat([mask_BL * _WORD, image_BP * _IMAGE], dim=1),
            return_dict=False,
        )[0]
        return -self._unpack(to_image_BLF[:, length:], noisy_BCHW.shape[-2:])

    def _pack(self, latent_BCHW: torch.Tensor) -> torch.Tensor:
        return super()._pack(latent_BCHW).unflatten(2, (-1, self.patch**2)).transpose(2, 3).flatten(2)

    def _unpack(self, tokens_BPF: torch.Tensor, size: torch.Size) -> torch.Tensor:
        return super()._unpack(tokens_BPF.unflatten(2, (self.patch**2, -1)).transpose(2, 3).flatten(2), size)

    def _by_channel(self, stats_F: torch.Tensor) -> torch.Tensor:
        return stats_F.view(self.patch**2, -1).T.flatten()

    def _path(self) -> Flow:
        found = super()._path()
        assert isinstance(found, Ideogram4Flow)
        return dataclasses.replace(found, px=vae_px(self.vae.config))


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


def undo(module: torch.nn.Module, arguments: Any, output: Any) -> Any:
    """Take a module out of its model, as a hook: transformers 5 gives the last of the states behind the last norm."""
    return arguments[0]
