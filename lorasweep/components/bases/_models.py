"""Loaded bases with a transformer that is trained with flow matching, one class a model.

Each says how its transformer is asked and how its captions are read.

B batch, C latent channels, H W latent height and width, P image tokens, L text tokens, D width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from lorasweep.components.bases._paths import Flow, Flux2Flow, StableDiffusion3Flow
from lorasweep.components.bases._transformer import LanguageModelBase, TransformerBase
from lorasweep.core.protocols import Text

_PACKED = {"latents": "pipeline._pack_latents(noise, *noise.shape)"}  # the noise goes in as a row of tokens
# Their pipelines go on from the answer with the prompt, so that 0 guides nothing.
_LOWER_BY_1 = {"guidance": "guidance_scale, which is lower by 1"}
# diffusers multiplies the masks of queries and keys and adds that to the scores: a word asks every word and no padding,
# padding asks padding alone, so that no row is empty; the product is within fp16.
_WORD, _PADDING = 1.0, -200.0
_BEFORE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n"
)
_AFTER = "<|im_end|>\n<|im_start|>assistant\n"
_INSTRUCTION = 34  # tokens of `_BEFORE`, as both count them
_ENDING = 5  # tokens of `_AFTER`


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

    asked = _PACKED | {"attention_mask": "boolean: what pipeline._prepare_attention_mask gives, with .bool()"}

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


class ZImageBase(LanguageModelBase):
    """Z-Image: time runs from noise to image, and its answer points to the image.

    Source: huggingface/diffusers, pipelines/z_image.
    """

    image_first = True
    thinking = True
    asked = _LOWER_BY_1

    def _states(self, layers_1LD: Sequence[torch.Tensor]) -> torch.Tensor:
        return layers_1LD[-2]

    def _velocity(self, noisy_BCHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        lengths = text["mask"].sum(1).tolist()  # read at once; what is filled up is behind
        captions = [row_LD[:length] for row_LD, length in zip(text["embeds"], lengths, strict=True)]
        to_image = self.denoiser([*noisy_BCHW.unsqueeze(2)], 1 - level_B, captions, return_dict=False)[0]
        return -torch.stack(to_image).squeeze(2)

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


class QwenVae(TransformerBase):
    """The VAE of Qwen-Image, Anima and Krea 2: made for films, of which a picture is one frame.

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
    asked = _PACKED | {"guidance": "true_cfg_scale"}  # and a negative prompt must be given, or nothing is guided

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
    asked = _PACKED | _LOWER_BY_1
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
