"""The embedded default: a small Stable Diffusion that ships with the package.

Same loader, same record and same rules as `stable_diffusion`; only the folder is known beforehand. `path` may
point at another folder that `python -m tools.pretrain_dollhouse` wrote.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.components.bases import _files, stable_diffusion
from lorasweep.core.records import BaseOptions, NoisePath

if TYPE_CHECKING:
    from lorasweep.components.bases._tokens import TextWindow
    from lorasweep.core.protocols import Base


def problems(options: BaseOptions) -> list[tuple[str, str, str]]:
    """What is wrong with `options`, each as (key, rule and value, next step)."""
    found = stable_diffusion.problems(_placed(options))
    if options.prediction_type is not None:
        rule = f"must be null: the dollhouse predicts what its files say, got {options.prediction_type}"
        found.append(("prediction_type", rule, "override: base.prediction_type=null"))
    if options.path is None or found:
        return found
    path = Path(options.path).expanduser()
    native_px = _files.native_px(path) if path.is_dir() else None
    if path.is_dir() and (native_px is None or native_px <= 2 * options.resolution):
        return []
    what = path.name if native_px is None else f"a base of {native_px} x {native_px} px"
    hint = f"a Stable Diffusion of yours: base=stable_diffusion base.path={options.path}"
    return [("path", f"must be a folder written by `python -m tools.pretrain_dollhouse`, got {what}", hint)]


def noise(options: BaseOptions) -> NoisePath:
    """How the dollhouse is noised and what it predicts."""
    return stable_diffusion.noise(_placed(options))


def fingerprint(options: BaseOptions) -> str:
    """Hex digest of the weights, configs and tokenizer."""
    return stable_diffusion.fingerprint(_placed(options))


def weight_shapes(options: BaseOptions, part: str) -> dict[str, tuple[int, ...]] | None:
    """Shapes of the weights of `unet` or `text_encoder` by module, from headers."""
    return stable_diffusion.weight_shapes(_placed(options), part)


def largest_rank(options: BaseOptions) -> int:
    """The highest rank that any layer of the UNet can have."""
    return stable_diffusion.largest_rank(_placed(options))


def text_window(options: BaseOptions) -> TextWindow:
    """How much of a caption is read; see `_tokens.TextWindow`."""
    return stable_diffusion.text_window(_placed(options))


def load(options: BaseOptions, *, device: str, precision: str) -> Base:
    """Load the dollhouse, frozen; see `stable_diffusion.load`."""
    return stable_diffusion.load(_placed(options), device=device, precision=precision)


def _placed(options: BaseOptions) -> BaseOptions:
    if options.path is not None:
        return options
    from lorasweep import dollhouse

    return dataclasses.replace(options, path=str(dollhouse.weights_dir()))
