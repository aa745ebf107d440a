"""What all loaded bases have in common: frozen modules on a device, a VAE, a middle to look into.

Most of `protocols.Base`; a kind of denoiser adds `path`, `encode_captions`, `predict` and the rest. Knows
nothing about files, adapters or training.

B batch, C latent channels, H W latent height and width, D width. Pixels are (B, 3, H * f, W * f) with f the VAE's
factor (8).
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from lorasweep.components.bases import _stored
from lorasweep.components.bases._files import vae_px
from lorasweep.core.protocols import ASKED_PX, NoisePath, Text
from lorasweep.core.records import Frame, LatentShape, MemoryOptions

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(kw_only=True, eq=False)
class LoadedBase:
    """See `protocols.Base`; every module is in eval mode, frozen, in `dtype`, the VAE in fp32.

    Made where the modules are; `place` moves it to its device, by when what is stored in fewer bits has been.
    """

    parts: dict[str, Any]  # the denoiser, then the text encoders that an adapter may sit on
    text_encoders: Sequence[Any]  # all of them
    tokenizers: Sequence[Any]  # one per text encoder
    vae: Any
    noise_schedule: Any  # diffusers' scheduler
    clip_skip: int  # 1 = last hidden state
    fingerprint: str
    vae_fingerprint: str
    text_fingerprint: str
    device: torch.device
    dtype: torch.dtype
    memory: MemoryOptions
    pipeline: str  # diffusers' class
    scopes: Mapping[str, str]
    unconditional: Any = None  # a denoiser of its own for what is asked without a prompt: on the device while drawing

    embeds_guidance = False  # see `protocols.Base`
    _waiting: list[tuple[torch.nn.Parameter, torch.Tensor]] = field(default_factory=list, init=False)
    _drawn_schedule: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        for module in (*self._denoisers, *self.text_encoders, self.vae):
            module.eval().requires_grad_(False)
        if self.memory.gradient_checkpointing:
            self.denoiser.enable_gradient_checkpointing()
        self.path = self._path()
        vae = self.vae.config
        self.latent = LatentShape(channels=vae.get("z_dim") or vae.latent_channels, px=vae_px(vae))
        self.vae.enable_slicing()  # one picture at a time: at 1024 px each takes gigabytes
        if "sample_size" in vae:
            # Tiles of half the size that a VAE was made for, which may be that of the picture.
            self.vae.tile_sample_min_size = min(512, vae.sample_size // 2)
            self.vae.tile_latent_min_size = self.vae.tile_sample_min_size // self.latent.px

    def keep(self) -> None:
        """Store the denoiser's weights as `memory` says, those that are only drawn with too."""
        if self.memory.storage == "plain" and not self.memory.offload_denoiser:
            return
        for denoiser in self._denoisers:
            _stored.store(denoiser, self.memory.storage, self.dtype)
        with self.drawing():
            self._waiting += _stored.store(self.denoiser, self.memory.storage, self.dtype).items()

    def place(self, device: torch.device) -> None:
        """Move it to where it works."""
        self.device = device
        _stored.place(self.denoiser, device, waiting=bool(self.memory.offload_denoiser))
        for module in (*self.text_encoders, self.vae):
            waits = self.memory.offload_text_encoders and module in self.text_encoders
            module.to("cpu" if waits else device)
        self.path = self._path()

    @property
    def denoiser(self) -> Any:
        """What answers."""
        return next(iter(self.parts.values()))

    @property
    def _denoisers(self) -> list[Any]:
        return [each for each in (self.denoiser, self.unconditional) if each is not None]

    def with_clip_skip(self, clip_skip: int) -> Self:
        """Return these very modules, with captions read from another layer of the text encoder."""
        other = copy.copy(self)  # making a new one would freeze an adapter that is in them
        other.clip_skip = clip_skip
        other.text_fingerprint = f"{self.text_fingerprint.removesuffix(f'-skip{self.clip_skip}')}-skip{clip_skip}"
        return other

    def draw_with(self, weights: Mapping[torch.nn.Parameter, torch.Tensor], schedule: Any = None) -> None:
        """Draw with other weights than are trained on, by the parameter whose place they take.

        They wait in the machine's memory. Without a scheduler of diffusers', the base's own draws.
        """
        self._waiting = [(parameter, tensor.to("cpu")) for parameter, tensor in weights.items()]
        self._drawn_schedule = schedule

    @property
    def drawn(self) -> Self:
        """See `protocols.Base`."""
        if self._drawn_schedule is None:
            return self
        other = copy.copy(self)
        other.noise_schedule, other._drawn_schedule, other._waiting = self._drawn_schedule, None, []
        other.path = other._path()
        return other

    @contextlib.contextmanager
    def drawing(self) -> Iterator[Self]:
        """See `protocols.Base`."""
        self._exchange()
        self._place_unconditional(self.device)
        try:
            yield self.drawn
        finally:
            self._place_unconditional(torch.device("cpu"))
            self._exchange()

    def _place_unconditional(self, device: torch.device) -> None:
        if self.unconditional is not None:
            _stored.place(self.unconditional, device, waiting=bool(self.memory.offload_denoiser))

    def _exchange(self) -> None:
        """Swap trained weights and drawn weights, one after the other, so that a card never holds both."""
        for place, (parameter, tensor) in enumerate(self._waiting):
            device = parameter.device
            self._waiting[place] = (parameter, parameter.data.to("cpu"))
            parameter.data = tensor.to(device)

    @torch.no_grad()
    def encode_images(self, pixels_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode pixels in [-1, 1] to the posterior's mean and std, shifted and scaled as configured; fp32."""
        mean_BCHW, std_BCHW = self._posterior(pixels_BCHW.to(self.device, torch.float32))
        shift, scale = self._affine(mean_BCHW)
        return (mean_BCHW - shift) * scale, std_BCHW * scale

    @torch.no_grad()
    def decode_latents(self, latent_BCHW: torch.Tensor) -> torch.Tensor:
        """Decode latents to pixels in about [-1, 1]; fp32."""
        if self.memory.tile_vae:
            self.vae.enable_tiling()
        try:
            shift, scale = self._affine(latent_BCHW)
            return self._decoded(latent_BCHW.float() / scale + shift)
        finally:
            self.vae.disable_tiling()  # latents to train on are never tiled

    def features(
        self, noisy_BCHW: torch.Tensor, t_B: torch.Tensor, text: Text, frames: Sequence[Frame]
    ) -> torch.Tensor:
        """Return output of the denoiser's `_middle`; (B, D, h, w) fp32."""
        handle = self._middle().register_forward_hook(_stop_here)
        try:
            self._answer(noisy_BCHW, t_B, text, frames)
        except _SeenEnough as seen:
            return self._feature_map(seen.output, noisy_BCHW).float()
        finally:
            handle.remove()
        raise RuntimeError("the denoiser never ran the block that is read")  # pragma: no cover

    def reproduction(self, sampler: str, steps: int) -> dict[str, Any]:
        """Tell by which pipeline, scheduler and first noise diffusers draws the same."""
        import diffusers

        scheduler = self._scheduler(sampler)
        if hasattr(scheduler, "init_noise_sigma"):
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
            "init_noise_sigma": float(getattr(scheduler, "init_noise_sigma", 1.0)),
        }

    def _posterior(self, pixels_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.vae.encode(pixels_BCHW).latent_dist
        return found.mean, found.std

    def _decoded(self, raw_BCHW: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(raw_BCHW).sample

    def _affine(self, latent_BCHW: torch.Tensor) -> tuple[Any, Any]:
        """Return what is taken from the VAE's own latents, and what they are multiplied by then."""
        return self.vae.config.shift_factor or 0.0, self.vae.config.scaling_factor

    def unprompted(self, text: Text) -> Text:
        """See `protocols.Base`."""
        return text

    def guide(self, without: torch.Tensor, with_prompt: torch.Tensor, guidance: float) -> torch.Tensor:
        """See `protocols.Base`."""
        return without + guidance * (with_prompt - without)

    def predict(self, noisy_BCHW: torch.Tensor, t_B: torch.Tensor, text: Text, frames: Sequence[Frame]) -> torch.Tensor:
        """See `protocols.Base`; where no gradient is wanted, at most `ASKED_PX` at a time."""
        height, width = noisy_BCHW.shape[-2:]
        at_once = max(1, ASKED_PX // (height * width * self.latent.px**2))
        if torch.is_grad_enabled() or len(noisy_BCHW) <= at_once:
            return self._answer(noisy_BCHW, t_B, text, frames)
        parts = [slice(start, start + at_once) for start in range(0, len(noisy_BCHW), at_once)]
        rows = ({name: tensor[part] for name, tensor in text.items()} for part in parts)
        asked = zip(parts, rows, strict=True)
        return torch.cat([self._answer(noisy_BCHW[part], t_B[part], told, frames[part]) for part, told in asked])

    def _answer(self, noisy_BCHW: torch.Tensor, t_B: torch.Tensor, text: Text, frames: Sequence[Frame]) -> torch.Tensor:
        """Ask the denoiser; (B, C, H, W) fp32."""
        raise NotImplementedError

    def _path(self) -> NoisePath:
        raise NotImplementedError

    def _middle(self) -> torch.nn.Module:
        raise NotImplementedError

    def _feature_map(self, output: Any, noisy_BCHW: torch.Tensor) -> torch.Tensor:
        """Return what `_middle` gives, as (B, D, h, w)."""
        raise NotImplementedError

    def _scheduler(self, sampler: str) -> Any:
        """Return diffusers' scheduler that steps as `path.sampling` does."""
        raise NotImplementedError


class _SeenEnough(Exception):
    """Ends a forward pass where its features are: the blocks after it, at full size, cost the most."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def _stop_here(module: torch.nn.Module, arguments: Any, output: Any) -> None:
    raise _SeenEnough(output)
