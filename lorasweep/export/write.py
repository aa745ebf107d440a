"""Write one exported file, or one for each rank of a DyLoRA."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from lorasweep import files
from lorasweep.adapters.stable_file import sort_metadata
from lorasweep.errors import InputError, Problem
from lorasweep.export import dora, metadata
from lorasweep.export.kohya import Tensors, to_kohya
from lorasweep.export.runs import CookedRun

Precision = Literal["fp32", "fp16"]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One written file."""

    file: str  # absolute path
    adapter: str
    rank: int | None  # what it was cut to; None: whole
    modules: int
    bytes: int


def export_run(
    run: CookedRun,
    *,
    out: Path | None = None,
    precision: Precision = "fp32",
    ranks: Sequence[int] | Literal["all"] = (),
    dora_for: dora.Form = "comfyui",
) -> list[Exported]:
    """Write the run's adapter in the names that UIs look for.

    Args:
        run: what to export.
        out: a .safetensors, or a folder; None: `export/` in the run folder.
        precision: fp32 is what was judged; fp16 halves the file.
        ranks: a DyLoRA cut to each of these, or to "all" that it was trained at; empty: whole.
        dora_for: the UIs that a DoRA is for, "comfyui" (and Forge) or "any", which is as large as the base.

    Raises:
        InputError: no such ranks, or a DoRA's base cannot be read; nothing was written.
    """
    trained = _trained_ranks(run)
    problems = _problems(run, out, ranks, trained)
    if problems:
        raise InputError(problems, subject="export")
    tensors, config = _read(run.adapter_file)
    if run.recipe.adapter.name == "dora":
        tensors = dora.to_uis(tensors, config, _base_weights(run, tensors), form=dora_for)
        config = {}
    chosen = (trained if ranks == "all" else tuple(ranks)) or (None,)
    return [_write(run, tensors, config, out, precision, rank) for rank in chosen]


def _base_weights(run: CookedRun, tensors: Tensors) -> dict[str, Any]:
    """The base's own weights under a DoRA, by its modules: magnitudes mean nothing without them.

    Raises:
        InputError: the base is not there any more, or not in a precision that can be read here.
    """
    options = run.recipe.base
    base = importlib.import_module(f"lorasweep.bases.{options.name}")
    found: dict[str, Any] = {}
    try:
        for part in ("unet", "text_encoder"):
            inside = [m.split(".", 1)[1] for m in dora.modules_of(tensors) if m.startswith(f"{part}.")]
            read = base.read_weights(options, part, inside)
            found |= {f"{part}.{module}": weight for module, weight in read.items()}
    except (InputError, OSError, KeyError, TypeError) as error:
        message = f"a DoRA is exported with its base at hand: {type(error).__name__}: {error}"
        hint = f"it must be where it was trained; diffusers reads {run.adapter_file} as it is"
        raise InputError(Problem("base.path", message, hint), subject="export") from error
    return found


def _trained_ranks(run: CookedRun) -> tuple[int, ...]:
    """Every rank that a DyLoRA was trained at; empty for other adapters."""
    knobs = run.recipe.adapter.options
    if run.recipe.adapter.name != "dylora":
        return ()
    return tuple(range(knobs["unit"], knobs["dim"] + 1, knobs["unit"]))


def _problems(
    run: CookedRun, out: Path | None, ranks: Sequence[int] | Literal["all"], trained: tuple[int, ...]
) -> list[Problem]:
    found = []
    name = run.recipe.adapter.name
    if ranks and not trained:
        found.append(Problem("--rank", f"only a dylora is trained at several ranks, this is a {name}"))
    elif ranks != "all" and (wrong := [rank for rank in ranks if rank not in trained]):
        told = f"the multiples of {trained[0]} up to {trained[-1]}"
        found.append(Problem("--rank", f"must be one that it was trained at, got {wrong[0]}", told))
    if ranks and len(ranks) > 1 and out is not None and out.suffix == ".safetensors":
        found.append(Problem("--out", f"must be a folder when there are several files, got {out}"))
    return found


def _write(
    run: CookedRun,
    tensors: Tensors,
    config: dict[str, Any],
    out: Path | None,
    precision: Precision,
    rank: int | None,
) -> Exported:
    name = f"{files.cut(f'{run.sweep}-{run.folder.name}', 200)}-{run.step:06d}" + (
        f"-rank{rank}" if rank else ""
    )
    path = out if out is not None and out.suffix == ".safetensors" else None
    path = path or (out or run.folder / "export") / f"{name}.safetensors"
    renamed = to_kohya(tensors, config, rank=rank) if config else tensors
    if precision == "fp16":
        renamed = {key: _halved(tensor) for key, tensor in renamed.items()}
    described = metadata.describe(run, output_name=path.stem, text_width=_text_width(renamed), rank=rank)

    def save(temporary: Path) -> None:
        save_file(renamed, temporary, metadata=described)
        sort_metadata(temporary)

    files.write_atomic(path, save)
    return Exported(
        file=str(path.resolve()),
        adapter=run.recipe.adapter.name,
        rank=rank,
        modules=len({key.split(".", 1)[0] for key in renamed}),
        bytes=path.stat().st_size,
    )


def _read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Tensors, and PEFT's config of a LoRA; files in LyCORIS's keys have none."""
    with safe_open(path, "np") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))


def _halved(tensor: np.ndarray) -> np.ndarray:
    return tensor.astype(np.float16) if tensor.dtype == np.float32 else tensor


def _text_width(tensors: Tensors) -> int | None:
    """Inputs of a cross-attention's keys, where a factor shows them."""
    for key, tensor in tensors.items():
        if key.endswith(("attn2_to_k.lora_down.weight", "attn2_to_k.hada_w1_b")):
            return int(tensor.shape[1])
    return None
