"""Loaded bases with a UNet, Stable Diffusion 1.x, 2.x and XL: frozen modules, and what others ask of them.

Implements `protocols.Base`. Knows nothing about files, adapters or training.

B batch, C latent channels (4), H W latent height and width, L tokens (77, and 75 more per further chunk), D text
width (768 for SD 1.x, 2048 for XL). Pixels are (B, 3, H * f, W * f) with f the VAE's factor (8).
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lorasweep.components.bases import _fp8
from lorasweep.components.bases._families import UNET_SCOPES
from lorasweep.components.bases._paths import VP
from lorasweep.core.protocols import Text
from lorasweep.core.records import Frame, LatentShape, MemoryOptions

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(kw_only=True, eq=False)
class StableDiffusionBase:
    """See `protocols.Base`; every module is in eval mode, on `device`, frozen, in `dtype`, the VAE in fp32."""

    parts: dict[str, Any]  # unet, text_encoder and, for some, text_encoder_2
    tokenizers: Sequence[Any]  # one per text encoder
    vae: Any
    noise_schedule: Any  # diffusers' DDPMScheduler
    clip_skip: int  # 1 = last hidden state
    fingerprint: str
    vae_fingerprint: str
    text_fingerprint: str
    device: torch.device
    dtype: torch.dtype
    memory: MemoryOptions

    pipeline = "StableDiffusionPipeline"
    scopes = UNET_SCOPES

    def __post_init__(self) -> None:
        for module in (*self.parts.values(), self.vae):
            waits = self.memory.offload_text_encoders and module in self.text_encoders
            module.eval().requires_grad_(False).to("cpu" if waits else self.device)
        if self.memory.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        if self.memory.storage == "fp8":
            _fp8.store(self.unet, self.dtype)
        self.path = VP(self.noise_schedule.alphas_cumprod.to(self.device), self.noise_schedule.config.prediction_type)
        levels = len(self.vae.config.block_out_channels)
        self.latent = LatentShape(channels=self.vae.config.latent_channels, px=2 ** (levels - 1))
        self.vae.enable_slicing()  # one picture at a time: at 1024 px each takes gigabytes
        # Tiles of half the size that a VAE was made for, which may be that of the picture.
        self.vae.tile_sample_min_size = min(512, self.vae.config.sample_size // 2)
        self.vae.tile_latent_min_size = self.vae.tile_sample_min_size // self.latent.px

    @property
    def unet(self) -> Any:
        """The denoiser."""
        return self.parts["unet"]

    @property
    def text_encoders(self) -> list[Any]:
        """The other parts."""
        return [module for part, module in self.parts.items() if part != "unet"]

    def with_clip_skip(self, clip_skip: int) -> StableDiffusionBase:
        """These very modules, with captions read from another layer of the text encoder."""
        other = copy.copy(self)  # making a new one would freeze an adapter that is in them
        other.clip_skip = clip_skip
        other.text_fingerprint = f"{self.text_fingerprint.removesuffix(f'-skip{self.clip_skip}')}-skip{clip_skip}"
        return other

    @torch.no_grad()
    def encode_images(self, pixels_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode pixels in [-1, 1] to the posterior's mean and std, times the VAE's scaling factor; fp32."""
        posterior = self.vae.encode(pixels_BCHW.to(self.device, torch.float32)).latent_dist
        scale = self.vae.config.scaling_factor
        return posterior.mean * scale, posterior.std * scale

    @torch.no_grad()
    def decode_latents(self, latent_BCHW: torch.Tensor) -> torch.Tensor:
        """Decode latents to pixels in about [-1, 1]; fp32."""
        if self.memory.tile_vae:
            self.vae.enable_tiling()
        try:
            pixels_BCHW: torch.Tensor = self.vae.decode(latent_BCHW.float() / self.vae.config.scaling_factor).sample
        finally:
            self.vae.disable_tiling()  # latents to train on are never tiled
        return pixels_BCHW

    def encode_captions(self, captions: Sequence[str]) -> Text:
        """Encode captions to "embeds" (B, L, D), all in as many chunks as the longest needs.

        Gradients flow when a text encoder holds trainable weights and the caller has not switched them off.
        """
        return {"embeds": self._read(0, captions)[0]}

    def chunks(self, caption: str) -> int:
        """In how many pieces of 75 tokens a caption is read, at least 1."""
        return max(len(_pieces(tokenizer, caption)) for tokenizer in self.tokenizers)

    def stack(self, rows: Sequence[Text], empty: Text) -> Text:
        """Put captions together; shorter ones go on with chunks of "", as all chunks of one batch would."""
        longest = max(row["embeds"].shape[0] for row in rows)

        def padded(embeds_LD: torch.Tensor) -> torch.Tensor:
            if len(embeds_LD) == longest:
                return embeds_LD
            inner_LD, end_LD = empty["embeds"][1:-1], empty["embeds"][-1:]
            more = (longest - len(embeds_LD)) // len(inner_LD)
            return torch.cat([embeds_LD[:-1], *[inner_LD] * more, end_LD])

        stacked = {name: torch.stack([row[name] for row in rows]) for name in rows[0] if name != "embeds"}
        return {"embeds": torch.stack([padded(row["embeds"]) for row in rows]), **stacked}

    def predict(self, noisy_BCHW: torch.Tensor, t_B: torch.Tensor, text: Text, frames: Sequence[Frame]) -> torch.Tensor:
        """Ask the UNet; (B, C, H, W) fp32."""
        answer_BCHW: torch.Tensor = self.unet(
            noisy_BCHW.to(self.device, self.dtype),
            t_B.to(self.device),
            encoder_hidden_states=text["embeds"].to(self.device, self.dtype),
            added_cond_kwargs=self._added(text, frames),
            return_dict=False,
        )[0]
        return answer_BCHW.float()

    def features(
        self, noisy_BCHW: torch.Tensor, t_B: torch.Tensor, text: Text, frames: Sequence[Frame]
    ) -> torch.Tensor:
        """Output of the middle up block; (B, D, h, w) fp32.

        Source: Tang et al., "Emergent correspondence from image diffusion" (arXiv 2306.03881), which reads up block
        1 of SD 1.x's four.
        """
        blocks = self.unet.up_blocks
        handle = blocks[(len(blocks) - 1) // 2].register_forward_hook(_stop_here)
        try:
            self.predict(noisy_BCHW, t_B, text, frames)
        except _SeenEnough as seen:
            return seen.output.float()
        finally:
            handle.remove()
        raise RuntimeError("the UNet never ran the block that is read")  # pragma: no cover

    def reproduction(self, sampler: str, steps: int) -> dict[str, Any]:
        """By which pipeline, scheduler and first noise diffusers draws the same."""
        import diffusers

        scheduler = self._scheduler(sampler)
        scheduler.set_timesteps(steps)  # Euler's first noise level depends on the number of steps
        config = {
            key: value
            for key, value in scheduler.config.items()
            # infinity (DPM-Solver's default clipping) is not JSON; leaving a default out changes nothing
            if not key.startswith("_") and not (isinstance(value, float) and not math.isfinite(value))
        }
        return {
            "diffusers": diffusers.__version__,
            "pipeline": self.pipeline,
            "clip_skip": self.clip_skip - 1 or None,  # diffusers counts from 0, and None is its 0
            "scheduler": type(scheduler).__name__,
            "scheduler_config": config,
            "init_noise_sigma": float(scheduler.init_noise_sigma),
        }

    def _added(self, text: Text, frames: Sequence[Frame]) -> Mapping[str, torch.Tensor] | None:
        """What the UNet is told beside caption and timestep."""
        return None

    def _hidden(self, encoder: Any, ids_BL: torch.Tensor, mask_BL: torch.Tensor | None) -> tuple[torch.Tensor, Any]:
        """Hidden states (B, L, D) by which the UNet was trained, and all that the encoder says.

        `clip_skip` 1 takes the last hidden state, 2 the one before, always through the final layer norm.

        Source: kohya-ss/sd-scripts, library/train_util.py, get_hidden_states, which counts `clip_skip` alike.
        """
        if self.clip_skip == 1:
            output = encoder(ids_BL, attention_mask=mask_BL)
            return output.last_hidden_state, output
        output = encoder(ids_BL, attention_mask=mask_BL, output_hidden_states=True)
        return encoder.final_layer_norm(output.hidden_states[-self.clip_skip]), output

    def _read(self, place: int, captions: Sequence[str]) -> tuple[torch.Tensor, Any]:
        """Read captions with one of the text encoders; (B, L, D), and what it said of every chunk.

        A caption is read in chunks of 75 tokens, each between the marks of start and end; of the marks only the
        first and the last are kept.

        Source: kohya-ss/sd-scripts, library/train_util.py, `max_token_length` 150 and 225.
        """
        tokenizer, encoder = self.tokenizers[place], self.text_encoders[place]
        count = max(self.chunks(caption) for caption in captions)
        length = tokenizer.model_max_length
        rows = []
        for caption in captions:
            pieces = _pieces(tokenizer, caption)
            pieces = (*pieces, *[()] * (count - len(pieces)))
            rows += [[tokenizer.bos_token_id, *piece, tokenizer.eos_token_id] for piece in pieces]
        ids_BL = torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows])
        mask_BL = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        # Most were trained attending to their padding; only configs that say so mask it.
        masked = getattr(encoder.config, "use_attention_mask", False)
        encoder.to(self.device)
        hidden_BLD, said = self._hidden(encoder, ids_BL.to(self.device), mask_BL.to(self.device) if masked else None)
        if self.memory.offload_text_encoders:
            encoder.to("cpu")
        if count == 1:
            return hidden_BLD, said
        chunks = hidden_BLD.unflatten(0, (-1, count))
        inner_BLD = chunks[:, :, 1:-1].flatten(1, 2)
        return torch.cat([chunks[:, 0, :1], inner_BLD, chunks[:, -1, -1:]], dim=1), said

    def _scheduler(self, sampler: str) -> Any:
        """Diffusers' scheduler that steps as `path.sampling` does."""
        import diffusers

        config = {**self.noise_schedule.config, "steps_offset": 1}
        if self.path.zero_terminal_snr and self.path.prediction == "v_prediction":
            config["timestep_spacing"] = "trailing"
        if sampler == "ddim":
            # Clipping predicted samples to [-1, 1] is for pixels; latents reach further.
            return diffusers.DDIMScheduler.from_config(config, clip_sample=False, set_alpha_to_one=False)
        if sampler == "euler":
            return diffusers.EulerDiscreteScheduler.from_config(config)
        return diffusers.DPMSolverMultistepScheduler.from_config(config, algorithm_type="dpmsolver++", solver_order=2)


class StableDiffusionXLBase(StableDiffusionBase):
    """XL: two text encoders, and a UNet that is told where each picture comes from.

    Source: Podell et al., "SDXL" (2023), sections 2.2 and 2.3.
    """

    pipeline = "StableDiffusionXLPipeline"

    def encode_captions(self, captions: Sequence[str]) -> Text:
        """Encode captions to "embeds" (B, L, 2048), of both encoders side by side, and "pooled" (B, 1280).

        Pooled is the second's projection of a caption's first chunk. "" is encoded like any other text, as UIs do.
        """
        left_BLD, _ = self._read(0, captions)
        right_BLD, said = self._read(1, captions)
        chunks = len(said.text_embeds) // len(captions)
        return {"embeds": torch.cat([left_BLD, right_BLD], dim=-1), "pooled": said.text_embeds[::chunks]}

    def _hidden(self, encoder: Any, ids_BL: torch.Tensor, mask_BL: torch.Tensor | None) -> tuple[torch.Tensor, Any]:
        """The last layer but one, without the final layer norm."""
        output = encoder(ids_BL, attention_mask=mask_BL, output_hidden_states=True)
        return output.hidden_states[-2], output

    def _added(self, text: Text, frames: Sequence[Frame]) -> Mapping[str, torch.Tensor]:
        """Pooled text and six numbers of each picture: original size, crop and target size, height or top first."""
        six = [[px for pair in (f.original_px, f.crop_px, f.size_px) for px in reversed(pair)] for f in frames]
        return {
            "text_embeds": text["pooled"].to(self.device, self.dtype),
            "time_ids": torch.tensor(six, device=self.device, dtype=torch.float32),  # bf16 has no 1001
        }


@functools.lru_cache(maxsize=20_000)
def _pieces(tokenizer: Any, caption: str) -> tuple[tuple[int, ...], ...]:
    """Token ids of a caption, cut into chunks; one empty chunk for ""."""
    ids = tuple(tokenizer(caption, add_special_tokens=False, verbose=False).input_ids)
    size = tokenizer.model_max_length - 2
    return tuple(ids[start : start + size] for start in range(0, len(ids), size)) or ((),)


class _SeenEnough(Exception):
    """Ends a forward pass where its features are: the blocks after it, at full size, cost the most."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output


def _stop_here(module: torch.nn.Module, arguments: Any, output: torch.Tensor) -> None:
    raise _SeenEnough(output)
