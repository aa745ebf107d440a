"""Loaded bases with Qwen's VAE, one class a model.

B batch, C latent channels, H W latent height and width, P image tokens, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from lorasweep.components.bases._language import LOWER_BY_1, LanguageModelBase, by_length, undo
from lorasweep.components.bases._transformer import PACKED, TransformerBase
from lorasweep.core.protocols import Text
from lorasweep.core.records import Frame

_BEFORE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n"
)
_SYSTEM = "<|im_start|>system\nComprehend and analyze the provided prompt.<|im_end|>\n"  # of 2.1
_AFTER = "<|im_end|>\n<|im_start|>assistant\n"
_INSTRUCTION = 34  # tokens of `_BEFORE`, as both count them
_ENDING = 5  # tokens of `_AFTER`


class QwenVae(TransformerBase):
    """The VAEs of Qwen-Image, Anima and Krea 2, and of Qwen-Image 2.1: made for films, of which a picture is one frame.

    Every channel of the latents has a mean and a deviation of its own.
    """

    def _posterior(self, pixels_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, std = super()._posterior(pixels_BCHW.unsqueeze(2))
        return mean.squeeze(2), std.squeeze(2)

    def _decoded(self, raw_BCHW: torch.Tensor) -> torch.Tensor:
        return super()._decoded(raw_BCHW.unsqueeze(2)).squeeze(2)

    def _affine(self, latent_BCHW: torch.Tensor) -> tuple[Any, Any]:
        config = self.vae.config
        mean, std = (
            latent_BCHW.new_tensor(each).view(1, -1, 1, 1) for each in (config.latents_mean, config.latents_std)
        )
        return mean, 1 / std


class AnimaBase(QwenVae):
    """Anima: a Cosmos-Predict2 of one frame, told T5's tokens as a conditioner reads them beside a language model.

    The text ends in zeros.

    Source: huggingface/diffusers, modular_pipelines/anima.
    """

    asked = {"guidance": "guider.guidance_scale", "latents": "noise.unsqueeze(2)"}
    longest = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        # Where the frame is padded is told in another channel: nowhere. For zeros of another size the transformer
        # would ask torchvision, so `_velocity` gives them in the right size, as the channel of another use.
        self.denoiser.register_to_config(concat_padding_mask=False)

    def _row(self, caption: str) -> Text:
        said, asked = (
            tokenizer([caption], truncation=True, return_tensors="pt").input_ids.long() for tokenizer in self.tokenizers
        )
        nothing = said.shape[1] == 0
        states_1LD = self._hidden(0, said.new_zeros(1, 1) if nothing else said).last_hidden_state
        states_1LD = states_1LD * 0 if nothing else states_1LD
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


class QwenImageBase(QwenVae, LanguageModelBase):
    """Qwen-Image: a guided answer is as long as the one with the prompt, token by token.

    Source: huggingface/diffusers, pipelines/qwenimage/pipeline_qwenimage.py.
    """

    dropped = _INSTRUCTION
    state = -1
    asked = PACKED | {"guidance": "true_cfg_scale"}  # and a negative prompt must be given, or nothing is guided

    def guide(self, without: torch.Tensor, with_prompt: torch.Tensor, guidance: float) -> torch.Tensor:
        """See `protocols.Base`."""
        size = without.shape[-2:]
        tokens, wanted = self._pack(super().guide(without, with_prompt, guidance)), self._pack(with_prompt)
        return self._unpack(tokens * (wanted.norm(dim=-1, keepdim=True) / tokens.norm(dim=-1, keepdim=True)), size)

    def _asked(self, caption: str) -> str:
        return f"{_BEFORE}{caption}{_AFTER}"

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        height, width = (side // self.patch for side in noisy_BCHW.shape[-2:])
        return self._ask(
            noisy_BCHW,
            level_B,
            text,
            encoder_hidden_states_mask=None if text["mask"].all() else text["mask"],
            img_shapes=[[(1, height, width)]] * len(noisy_BCHW),
        )


class Krea2Base(QwenVae, LanguageModelBase):
    """Krea 2: told of twelve layers of the language model, whose text has no places.

    Source: huggingface/diffusers, pipelines/krea2/pipeline_krea2.py.
    """

    dropped = _INSTRUCTION
    asked = PACKED | LOWER_BY_1
    layers = (2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35)

    def _tokens(self, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokenize a caption whose end is told, however long it is."""
        (tokenizer,) = self.tokenizers
        after_1L = tokenizer(_AFTER, return_tensors="pt").input_ids
        most = tokenizer.model_max_length + self.dropped - _ENDING
        told_1L = tokenizer(f"{_BEFORE}{caption}", truncation=True, max_length=most, return_tensors="pt").input_ids
        ids_1L = torch.cat([told_1L, after_1L], dim=1)
        return ids_1L, torch.ones_like(ids_1L)

    def _states(self, layers_1LD: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack([layers_1LD[place] for place in self.layers], dim=2)

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        places_P3 = self._places(noisy_BCHW.shape[-2:]).float()
        return self._ask(
            noisy_BCHW,
            level_B,
            text,
            position_ids=torch.cat([places_P3.new_zeros(text["embeds"].shape[1], 3), places_P3]),
            encoder_attention_mask=None if text["mask"].all() else text["mask"],
        )


class QwenImage21Base(QwenVae, LanguageModelBase):
    """Qwen-Image 2.1: told the states before the language model's last norm; pictures have an opacity.

    The image's places begin where the text ends, filling included, so that only captions of one length are asked at
    once.

    Source: huggingface/diffusers, pipelines/qwenimage21/pipeline_qwenimage21.py.
    """

    patch = 1
    longest = None
    state = -1
    asked = {
        "latents": "noise.flatten(2).transpose(1, 2)",
        "guidance": "true_cfg_scale",  # and a negative prompt must be given, or nothing is guided
        "sigmas": "numpy.linspace(1, 1 / steps, steps)",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for encoder, tokenizer in zip(self.text_encoders, self.tokenizers, strict=True):
            encoder.model.language_model.norm.register_forward_hook(undo)
            self.dropped = len(tokenizer(_SYSTEM).input_ids)

    def _asked(self, caption: str) -> str:
        return f"{_SYSTEM}<|im_start|>user\n{caption or ' '}{_AFTER}"

    def features(
        self, noisy_BCHW: torch.Tensor, t_B: torch.Tensor, text: Text, frames: Sequence[Frame]
    ) -> torch.Tensor:
        """See `protocols.Base`."""
        return by_length(super().features, noisy_BCHW, t_B, text, frames)

    def _answer(self, noisy_BCHW: torch.Tensor, t_B: torch.Tensor, text: Text, frames: Sequence[Frame]) -> torch.Tensor:
        return by_length(super()._answer, noisy_BCHW, t_B, text, frames)

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        (batch, length), (height, width) = text["embeds"].shape[:2], noisy_BCHW.shape[-2:]
        places_L = torch.arange(length + height * width // 4, device=self.device) >= length  # of four tokens each
        return self._ask(
            noisy_BCHW,
            level_B,
            text,
            img_shapes=[[(1, height, width)]] * batch,
            img_mask=places_L.expand(batch, -1),
        )

    def _posterior(self, pixels_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super()._posterior(functional.pad(pixels_BCHW, (0, 0, 0, 0, 0, 1), value=1.0))

    def _decoded(self, raw_BCHW: torch.Tensor) -> torch.Tensor:
        return super()._decoded(raw_BCHW)[:, :3]

    def _unpack(self, tokens_BPF: torch.Tensor, size: torch.Size) -> torch.Tensor:
        return super()._unpack(tokens_BPF[:, -size.numel() :], size)  # those of the text come first
