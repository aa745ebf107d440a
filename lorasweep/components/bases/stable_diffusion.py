"""Stable Diffusion 1.x or 2.x from the disk: a diffusers folder, or one .safetensors checkpoint.

Takes `BaseOptions`, returns a frozen `protocols.Base`. Never touches the network, whatever the environment
says, and never opens a pickle. A checkpoint `some.safetensors` holds weights only: its configs and tokenizer
are those of a folder `some/` beside it, or, for a Stable Diffusion 1.x, those that ship in `sd1/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep.components.bases import _checks, _files, _tokens
from lorasweep.components.bases._noise import noise_path
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.records import BaseOptions, NoisePath, PredictionType, digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from lorasweep.components.bases._tokens import TextWindow
    from lorasweep.core.protocols import Base

TEXT_PARTS = ("text_encoder", "tokenizer")


def problems(options: BaseOptions) -> list[tuple[str, str, str]]:
    """What is wrong, each as (key, rule and value, next step).

    Reads configs and headers and, once per machine, looks through the weights for NaN.
    """
    found: list[tuple[str, str, str]] = []
    if options.clip_skip < 1:
        found.append(("clip_skip", f"must be >= 1 (1 = last hidden state), got {options.clip_skip}", ""))
    if not options.path:
        return [*found, ("path", "must be given for a base of your own", "override: base.path=some/folder")]
    path = Path(options.path).expanduser()
    configs = path if path.is_dir() else _files.config_folder(path)
    found += _checks.option_problems(configs, clip_skip=options.clip_skip, bucket_step=options.bucket_step)
    return found + _checks.find_problems(path)


def noise(options: BaseOptions) -> NoisePath:
    """How the base is noised and what it predicts: as its files say, or `options` for them.

    Raises:
        ConfigError: `problems` found some.
    """
    return _noise(_checked(options), options.prediction_type)


def fingerprint(options: BaseOptions) -> str:
    """Hex digest of the weights, configs and tokenizer that `load` would read, and of what it would predict.

    Raises:
        ConfigError: `problems` found some.
    """
    path = _checked(options)
    return _fingerprint(path, _noise(path, options.prediction_type))


def weight_shapes(options: BaseOptions, part: str) -> dict[str, tuple[int, ...]] | None:
    """Shapes of the weights of `unet` or `text_encoder` by module; None for one checkpoint file."""
    return _files.weight_shapes(_checked(options), part)


def largest_rank(options: BaseOptions) -> int:
    """The highest rank that any layer of the UNet can have."""
    return _files.largest_rank(_checked(options))


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
        ConfigError: `problems` found some, or weights are missing or do not fit `precision`.
    """
    path, clip_skip = _checked(options), options.clip_skip
    import diffusers.utils.logging
    import torch
    import transformers.utils.logging
    from diffusers import DDPMScheduler

    from lorasweep.components.bases._loaded import DTYPES, StableDiffusionBase

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()  # the terminal belongs to the caller
        library.utils.logging.set_verbosity_error()
    dtype = DTYPES[precision]
    noised = _noise(path, options.prediction_type)
    try:
        parts = _checkpoint_parts(path, dtype) if path.is_file() else _folder_parts(path, dtype)
    except (OSError, ValueError, RuntimeError, KeyError) as error:  # what the libraries raise for weights
        said = " ".join(str(error).split())[:300]
        said = "weights are missing in it" if "meta tensor" in said else said
        hint = "are its weights of the family that its configs say?"
        raise _error(options, [("path", f"cannot be loaded: {said}", hint)]) from error
    _require_whole(options, parts, precision)
    # A tokenizer without a config of its own does not know how long a text may be.
    positions = parts["text_encoder"].config.max_position_embeddings
    parts["tokenizer"].model_max_length = min(parts["tokenizer"].model_max_length, positions)
    return StableDiffusionBase(
        unet=parts["unet"],
        vae=parts["vae"],
        text_encoder=parts["text_encoder"],
        tokenizer=parts["tokenizer"],
        noise_schedule=DDPMScheduler.from_config(noised.config, clip_sample=False),
        clip_skip=clip_skip,
        fingerprint=_fingerprint(path, noised),
        vae_fingerprint=_files.digest_of(path, ("vae",)),
        text_fingerprint=f"{_files.digest_of(path, TEXT_PARTS)}-skip{clip_skip}",
        device=torch.device(device),
        dtype=dtype,
    )


def _checked(options: BaseOptions) -> Path:
    found = problems(options)
    if found:
        raise _error(options, found)
    assert options.path is not None  # one of the problems
    return Path(options.path).expanduser()


def _error(options: BaseOptions, found: Sequence[_checks.Finding]) -> ConfigError:
    listed = [Problem(f"base.{key}", message, hint) for key, message, hint in found]
    return ConfigError(listed, subject=f"base `{options.name}`")


def _require_whole(options: BaseOptions, parts: Mapping[str, Any], precision: str) -> None:
    """Refuse weights that the files do not have, or that are no longer numbers in this precision.

    Libraries make up what is missing, or leave it without content.
    """
    for part in _files.WEIGHT_PARTS:
        state = parts[part].state_dict()
        missing = parts.get(f"{part}_missing", []) + [name for name, value in state.items() if value.is_meta]
        if missing:
            message = f"must be whole, got a {part} without {_checks.some(missing)}"
            raise _error(options, [("path", message, "take another copy")])
        if broken := [name for name, value in state.items() if not value.isfinite().all()]:
            message = f"must have weights that are numbers in {precision}, got a {part} with {_checks.some(broken)}"
            raise _error(options, [("path", message, "override: train.precision=fp32 or bf16")])


def _noise(path: Path, override: PredictionType | None) -> NoisePath:
    configs = path if path.is_dir() else _files.config_folder(path)
    return noise_path(path, configs, shipped=configs == _files.SHIPPED, override=override)


def _fingerprint(path: Path, noised: NoisePath) -> str:
    """The files' digest; what is not as the scheduler config has it makes another base of the same files."""
    found = _files.digest_of(path)
    if noised.as_written:
        return found
    return digest([found, noised.prediction_type, noised.zero_terminal_snr])


def _folder_parts(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    def read(kind: Any, part: str, **how: Any) -> Any:
        variant = _files.variant_of(folder / part)
        return kind.from_pretrained(folder / part, variant=variant, use_safetensors=True, local_files_only=True, **how)

    text_encoder, info = read(CLIPTextModel, "text_encoder", dtype=dtype, output_loading_info=True)
    return {
        "unet": read(UNet2DConditionModel, "unet", torch_dtype=dtype),
        "vae": read(AutoencoderKL, "vae", torch_dtype=dtype),
        "text_encoder": text_encoder,
        "text_encoder_missing": sorted(info["missing_keys"]),
        "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
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
    return dict(pipeline.components)
