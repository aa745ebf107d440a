"""Stable Diffusion 1.x or 2.x from the disk: a diffusers folder, or one .safetensors checkpoint.

Takes `BaseOptions`, returns a frozen `protocols.Base`. Never touches the network, whatever the environment
says, and never opens a pickle. A checkpoint `some.safetensors` holds weights only: its configs and tokenizer
are those of a folder `some/` beside it, or, for a Stable Diffusion 1.x, those that ship in `sd1/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep.bases import _files, _tokens
from lorasweep.errors import ConfigError, Problem
from lorasweep.records import BaseOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import torch

    from lorasweep.bases._tokens import TextWindow
    from lorasweep.protocols import Base

TEXT_PARTS = ("text_encoder", "tokenizer")


def problems(options: BaseOptions) -> list[tuple[str, str, str]]:
    """What is wrong, each as (key, rule and value, next step); reads headers and configs only."""
    found: list[tuple[str, str, str]] = []
    if options.clip_skip < 1:
        found.append(("clip_skip", f"must be >= 1 (1 = last hidden state), got {options.clip_skip}", ""))
    if not options.path:
        return [*found, ("path", "must be given for a base of your own", "override: base.path=some/folder")]
    return found + _files.find_problems(Path(options.path).expanduser())


def fingerprint(options: BaseOptions) -> str:
    """Hex digest of the weights, configs and tokenizer that `load` would read.

    Raises:
        ConfigError: `problems` found some.
    """
    return _files.digest_of(_checked(options))


def weight_shapes(options: BaseOptions, part: str) -> dict[str, tuple[int, ...]] | None:
    """Shapes of the weights of `unet` or `text_encoder` by module; None for one checkpoint file."""
    return _files.weight_shapes(_checked(options), part)


def read_weights(options: BaseOptions, part: str, modules: Iterable[str]) -> dict[str, np.ndarray]:
    """Weights of some modules of `unet` or `text_encoder`; see `_files.read_weights`."""
    return _files.read_weights(_checked(options), part, modules)


def text_window(options: BaseOptions) -> TextWindow:
    """How much of a caption is read; see `_tokens.TextWindow`."""
    path = _checked(options)
    return _tokens.text_window((path if path.is_dir() else _files.config_folder(path)) / "tokenizer")


def load(options: BaseOptions, *, device: str, precision: str) -> Base:
    """Load the base, frozen, in eval mode.

    Args:
        options: where it is.
        device: as torch names it, `cpu` or `cuda`.
        precision: of the frozen weights: `fp32`, `fp16` or `bf16`.

    Raises:
        ConfigError: `problems` found some.
    """
    path = _checked(options)
    return load_folder(path, clip_skip=options.clip_skip, device=device, precision=precision)


def load_folder(path: Path, *, clip_skip: int, device: str, precision: str) -> Base:
    """Load a folder or checkpoint that is known to be sound; see `load`."""
    import diffusers.utils.logging
    import torch
    import transformers.utils.logging
    from diffusers import DDPMScheduler

    from lorasweep.bases._loaded import DTYPES, StableDiffusionBase

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()  # the terminal belongs to the caller
        library.utils.logging.set_verbosity_error()
    dtype = DTYPES[precision]
    parts = _checkpoint_parts(path, dtype) if path.is_file() else _folder_parts(path, dtype)
    return StableDiffusionBase(
        unet=parts["unet"],
        vae=parts["vae"],
        text_encoder=parts["text_encoder"],
        tokenizer=parts["tokenizer"],
        noise_schedule=DDPMScheduler.from_config(parts["scheduler"], clip_sample=False),
        clip_skip=clip_skip,
        fingerprint=_files.digest_of(path),
        vae_fingerprint=_files.digest_of(path, ("vae",)),
        text_fingerprint=f"{_files.digest_of(path, TEXT_PARTS)}-skip{clip_skip}",
        device=torch.device(device),
        dtype=dtype,
    )


def _checked(options: BaseOptions) -> Path:
    found = problems(options)
    if found:
        listed = [Problem(f"base.{key}", message, hint) for key, message, hint in found]
        raise ConfigError(listed, subject=f"base `{options.name}`")
    assert options.path is not None  # one of the problems
    return Path(options.path).expanduser()


def _folder_parts(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    def read(kind: Any, part: str, **how: Any) -> Any:
        variant = _files.variant_of(folder / part)
        return kind.from_pretrained(
            folder / part, variant=variant, use_safetensors=True, local_files_only=True, **how
        )

    return {
        "unet": read(UNet2DConditionModel, "unet", torch_dtype=dtype),
        "vae": read(AutoencoderKL, "vae", torch_dtype=dtype),
        "text_encoder": read(CLIPTextModel, "text_encoder", dtype=dtype),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        "scheduler": DDPMScheduler.load_config(folder / "scheduler", local_files_only=True),
    }


def _checkpoint_parts(checkpoint: Path, dtype: torch.dtype) -> dict[str, Any]:
    from diffusers import StableDiffusionPipeline

    # With a local `config` folder diffusers asks no hub; without one it would, told to stay offline or not.
    pipeline = StableDiffusionPipeline.from_single_file(
        str(checkpoint),
        config=str(_files.config_folder(checkpoint)),
        torch_dtype=dtype,
        local_files_only=True,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    parts = dict(pipeline.components)
    return {**parts, "scheduler": pipeline.scheduler.config}
