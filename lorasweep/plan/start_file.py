"""The LoRA file that training starts from (`adapter.init`). No torch."""

from __future__ import annotations

from pathlib import Path

from lorasweep.components.adapters import file
from lorasweep.components.adapters._start import KEY, Trained, place_start
from lorasweep.core import files
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.records import Recipe
from lorasweep.plan.judged_files import base_shapes
from lorasweep.plan.trainable import layer_shapes


def digests(recipe: Recipe) -> list[str]:
    """Digest the file's bytes."""
    path = _file(recipe)
    return [] if path is None else [files.file_digest(path)]


def problems(recipe: Recipe) -> list[Problem]:
    """Find what keeps training from starting at the file.

    Whether it fits is not known where the base's headers do not tell: it is seen when it is loaded.
    """
    path = _file(recipe)
    if path is None:
        return []
    if not path.is_file():
        return [Problem(KEY, f"no such file: {path}", "a .safetensors, or null")]
    shapes, own, name = base_shapes(recipe), layer_shapes(recipe), recipe.adapter.name
    if not shapes or own is None:
        return file.unreadable(path)
    trained = {module: Trained(found, _scale(recipe, shapes[module])) for module, found in own.items()}
    kind = name if name in ("loha", "lokr", "ia3") else "lora"
    try:
        place_start(path, shapes, kind=kind, trained=trained)
    except InputError as error:
        return error.problems
    return file.broken(path)


def _file(recipe: Recipe) -> Path | None:
    path = recipe.adapter.options.get("init")
    return None if path is None else Path(path).expanduser()


def _scale(recipe: Recipe, shape: tuple[int, ...]) -> float:
    """Alpha / r of what is beside a weight; (IA)^3 has none."""
    options = recipe.adapter.options
    kernel = "conv_" if "conv_dim" in options and len(shape) == 4 and shape[2:] != (1, 1) else ""
    return float(options[f"{kernel}alpha"] / options[f"{kernel}dim"]) if "dim" in options else 1.0
