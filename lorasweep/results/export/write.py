"""Write one exported file, or one for each rank of a DyLoRA."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lorasweep.core import files
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.stable_file import sort_metadata
from lorasweep.results.export import forms, metadata
from lorasweep.results.export.dora import MAGNITUDE, dora_scales
from lorasweep.results.export.forms import Form
from lorasweep.results.export.kohya import Tensors, to_kohya
from lorasweep.results.export.runs import CookedRun
from lorasweep.results.export.whole import as_lora, differences, in_its_base

Precision = Literal["fp32", "fp16"]
_OTHER_ENDINGS = (".ckpt", ".pt", ".pth", ".bin", ".sft", ".safetensor", ".gguf")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One written file."""

    file: str  # absolute path
    adapter: str
    form: Form
    read_by: tuple[str, ...]  # of `forms.READERS`, those that read it as it was judged
    rank: int | None  # what it was cut to; None: whole
    modules: int
    bytes: int


def export_run(
    run: CookedRun,
    *,
    out: Path | None = None,
    precision: Precision = "fp32",
    ranks: Sequence[int] | Literal["all"] = (),
    form: Form | None = None,
) -> list[Exported]:
    """Write the run's adapter in the names that UIs look for.

    Args:
        run: what to export.
        out: a .safetensors, or a folder; None: `export/` in the run folder.
        precision: fp32 is what was judged; fp16 halves the file.
        ranks: a DyLoRA cut to each of these, or to "all" that it was trained at; empty: whole.
        form: see `forms`; None is the smallest that ComfyUI and Forge read.

    Raises:
        InputError: no such ranks, or the base is needed and cannot be read; nothing was written.
    """
    kind = run.recipe.adapter.name
    form = forms.plain_form(kind, form) if form else forms.smallest_form(kind)
    trained = _trained_ranks(run)
    problems = _problems(run, out, ranks, trained, form)
    if problems:
        raise InputError(problems, subject="export")
    if form == "factors":
        tensors, config = _read(run.adapter_file)
        if kind == "dora":
            tensors = {key: tensor for key, tensor in tensors.items() if MAGNITUDE not in key}
            with in_its_base(run) as adapter:
                tensors = to_kohya(tensors, config) | dora_scales(adapter)
            config = {}
    else:
        with in_its_base(run) as adapter:
            tensors, config = differences(adapter), {}
        tensors = as_lora(tensors) if form == "lora" else tensors
    chosen = (trained if ranks == "all" else tuple(ranks)) or (None,)
    return [_write(run, tensors, config, out, precision, form, rank) for rank in chosen]


def _trained_ranks(run: CookedRun) -> tuple[int, ...]:
    """Every rank that a DyLoRA was trained at; empty for other adapters."""
    knobs = run.recipe.adapter.options
    if run.recipe.adapter.name != "dylora":
        return ()
    return tuple(range(knobs["unit"], knobs["dim"] + 1, knobs["unit"]))


def _problems(
    run: CookedRun,
    out: Path | None,
    ranks: Sequence[int] | Literal["all"],
    trained: tuple[int, ...],
    form: Form,
) -> list[Problem]:
    found = []
    name = run.recipe.adapter.name
    if ranks and not trained:
        found.append(Problem("--rank", f"only a dylora is trained at several ranks, this is adapter={name}"))
    elif ranks and form != "factors":
        found.append(Problem("--rank", f"cuts factors, got --form {form}", "a cut DyLoRA is a plain LoRA"))
    if trained and ranks != "all" and (wrong := [rank for rank in ranks if rank not in trained]):
        told = f"the multiples of {trained[0]} up to {trained[-1]}"
        found.append(Problem("--rank", f"must be one that it was trained at, got {wrong[0]}", told))
    if ranks and len(ranks) > 1 and out is not None and _is_a_file(out):
        found.append(Problem("--out", f"must be a folder when there are several files, got {out}"))
    if out is not None and not _is_a_file(out) and (out.suffix.lower() in _OTHER_ENDINGS or out.is_file()):
        found.append(Problem("--out", f"must end in .safetensors, or be a folder, got {out}"))
    for path in {_target(run, out, form, rank) for rank in (trained if ranks == "all" else ranks or (None,))}:
        if _in_the_way(run, path):
            message = f"{path} is there already, and is not an export of this run"
            found.append(Problem("--out", message, "name another file, or move that one away"))
    return found


def _is_a_file(out: Path) -> bool:
    """Whether a place is that of the file, rather than of a folder for it."""
    return out.suffix.lower() == ".safetensors"


def _target(run: CookedRun, out: Path | None, form: Form, rank: int | None) -> Path:
    if out is not None and _is_a_file(out):
        return out
    name = f"{files.cut(f'{run.sweep}-{run.folder.name}', 200)}-{run.step:06d}"
    name += f"-rank{rank}" if rank else ""
    name += "" if form == "factors" else f"-{form}"
    return (out or run.folder / "export") / f"{name}.safetensors"


def _in_the_way(run: CookedRun, path: Path) -> bool:
    """Whether another file is there than what this run was exported to before."""
    if not path.exists():
        return False
    try:
        with safe_open(path, "np") as file:
            told = file.metadata() or {}
    except (OSError, SafetensorError):
        return True
    return (told.get("lorasweep.sweep"), told.get("lorasweep.trial")) != (run.sweep, run.folder.name)


def _write(
    run: CookedRun,
    tensors: Tensors,
    config: dict[str, Any],
    out: Path | None,
    precision: Precision,
    form: Form,
    rank: int | None,
) -> Exported:
    path = _target(run, out, form, rank)
    renamed = to_kohya(tensors, config, rank=rank) if config else tensors
    if precision == "fp16":
        renamed = {key: _halved(tensor) for key, tensor in renamed.items()}
    described = metadata.describe(run, output_name=path.stem, text_width=_text_width(renamed), form=form, rank=rank)

    def save(temporary: Path) -> None:
        save_file(renamed, temporary, metadata=described)
        sort_metadata(temporary)

    files.write_atomic(path, save)
    return Exported(
        file=str(path.resolve()),
        adapter=run.recipe.adapter.name,
        form=form,
        read_by=forms.read_by(run.recipe.adapter.name, form),
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
        if key.endswith(tuple(f"attn2_to_k.{end}" for end in ("lora_down.weight", "hada_w1_b", "diff"))):
            return int(tensor.shape[1])
    return None
