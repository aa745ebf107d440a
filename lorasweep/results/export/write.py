"""Write one exported file, or one for each rank of a DyLoRA."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lorasweep.core import files, registry
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.run_folder import EXPORTS
from lorasweep.core.safetensors_header import sort_metadata
from lorasweep.results.export import forms, metadata
from lorasweep.results.export.forms import Form
from lorasweep.results.export.whole import (
    MAGNITUDE,
    Tensors,
    as_lora,
    differences,
    dora_scales,
    in_its_base,
    named_as_its_own,
    to_kohya,
)
from lorasweep.results.runs import Checkpoint

Precision = Literal["fp32", "fp16"]
_AFTER_MODULE = re.compile(r"(\.lora_\w+)?\.[^.]+$")
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
    saved: Checkpoint,
    *,
    out: Path | None = None,
    precision: Precision = "fp32",
    ranks: int | Sequence[int] | Literal["all"] = (),
    form: Form | None = None,
) -> list[Exported]:
    """Write the run's adapter in the names that UIs look for.

    Args:
        saved: what to export.
        out: a .safetensors, or a folder; None: `export/` in the run folder.
        precision: fp32 is what was judged; fp16 halves the file.
        ranks: a DyLoRA cut to this rank, to each of these, or to "all" that it was trained at; empty: whole.
        form: see `forms`; None is the smallest that ComfyUI and Forge read.

    Raises:
        InputError: no such precision, form or ranks, or the base is needed and cannot be read; nothing was written.
    """
    if wrong := list(_wrong_words(precision, form)):
        raise InputError(wrong, subject="export")
    kind = saved.recipe.adapter.name
    ranks = (ranks,) if isinstance(ranks, int) else ranks
    form = forms.plain_form(kind, form) if form else forms.smallest_form(kind)
    trained = _trained_ranks(saved)
    chosen: Sequence[int | None] = (trained if ranks == "all" else ranks) or (None,)
    targets = {rank: _target(saved, out, form, rank) for rank in chosen}
    problems = [*_wrong_ranks(saved, ranks, trained, form), *_wrong_places(saved, out, list(targets.values()))]
    if problems:
        raise InputError(problems, subject="export")
    config: dict[str, Any] = {}
    if form == "factors":
        tensors, config = _read(saved.file)
        factors = {key: tensor for key, tensor in tensors.items() if MAGNITUDE not in key}
        if len(factors) < len(tensors):
            tensors, config = to_kohya(factors, config) | dora_scales(in_its_base(saved)), {}
    else:
        tensors = differences(in_its_base(saved), registry.load("base", saved.recipe.base.name).PARTS)
        tensors = as_lora(tensors) if form == "lora" else tensors
    made = []
    for rank, path in targets.items():
        renamed = to_kohya(tensors, config, rank=rank) if config else tensors
        renamed = named_as_its_own(renamed, saved.recipe.base.name)
        if precision == "fp16":
            with np.errstate(over="ignore"):  # told below
                renamed = {key: _halved(each) for key, each in renamed.items()}
        if broken := [key for key, each in renamed.items() if not np.isfinite(each).all()]:
            hint = "--precision fp32" if precision == "fp16" else "--step of an earlier checkpoint"
            message = f"{len(broken)} of {len(renamed)} tensors would not be numbers, e.g. {broken[0]}"
            raise InputError(Problem(f"--precision {precision}", message, hint), subject="export")
        made.append(_write(saved, renamed, path, form, rank))
    return made


def _halved(tensor: np.ndarray) -> np.ndarray:
    """Return it in fp16; an alpha beyond that stays, which a LoKr of whole matrices has and no program reads."""
    half = tensor.astype("f2")
    return tensor if tensor.dtype != "f4" or (not tensor.ndim and np.isinf(half)) else half


def _trained_ranks(saved: Checkpoint) -> tuple[int, ...]:
    """Return every rank that a DyLoRA was trained at; empty for other adapters."""
    knobs = saved.recipe.adapter.options
    if "unit" not in knobs:
        return ()
    return tuple(range(knobs["unit"], knobs["dim"] + 1, knobs["unit"]))


def _wrong_words(precision: str, form: str | None) -> Iterator[Problem]:
    words = (("--precision", precision, get_args(Precision)), ("--form", form or "factors", get_args(Form)))
    for option, got, known in words:
        if got not in known:
            yield Problem(option, f"must be one of {', '.join(known)}, got {got!r}")


def _wrong_ranks(
    saved: Checkpoint, ranks: Sequence[int] | Literal["all"], trained: tuple[int, ...], form: Form
) -> Iterator[Problem]:
    name = saved.recipe.adapter.name
    if ranks and not trained:
        yield Problem("--rank", f"only a dylora is trained at several ranks, this is adapter={name}")
    elif ranks and form != "factors":
        yield Problem("--rank", f"cuts factors, got --form {form}", "a cut DyLoRA is a plain LoRA")
    if trained and ranks != "all" and (wrong := [rank for rank in ranks if rank not in trained]):
        told = f"the multiples of {trained[0]} up to {trained[-1]}"
        yield Problem("--rank", f"must be one that it was trained at, got {wrong[0]}", told)


def _wrong_places(saved: Checkpoint, out: Path | None, targets: Sequence[Path]) -> Iterator[Problem]:
    if len(targets) > 1 and out in targets:
        yield Problem("--out", f"must be a folder when there are several files, got {out}")
    if out is not None and out not in targets and (out.suffix.lower() in _OTHER_ENDINGS or out.is_file()):
        yield Problem("--out", f"must end in .safetensors, or be a folder, got {out}")
    for path in dict.fromkeys(targets):
        if _in_the_way(saved, path):
            message = f"{path} is there already, and is not an export of this run"
            yield Problem("--out", message, "name another file, or move that one away")


def _target(saved: Checkpoint, out: Path | None, form: Form, rank: int | None) -> Path:
    if out is not None and out.suffix.lower() == ".safetensors":
        return out
    name = f"{files.cut(f'{saved.sweep}-{saved.folder.name}', 200)}-{saved.step:06d}"
    name += f"-rank{rank}" if rank else ""
    name += "" if form == "factors" else f"-{form}"
    return (out or saved.folder / EXPORTS) / f"{name}.safetensors"


def _in_the_way(saved: Checkpoint, path: Path) -> bool:
    """Tell whether another file is there than what this run was exported to before."""
    if not path.exists():
        return False
    try:
        with safe_open(path, "np") as file:
            told = file.metadata() or {}
    except (OSError, SafetensorError):
        return True
    return (told.get("lorasweep.sweep"), told.get("lorasweep.trial")) != (saved.sweep, saved.folder.name)


def _write(saved: Checkpoint, tensors: Tensors, path: Path, form: Form, rank: int | None) -> Exported:
    described = metadata.describe(saved, output_name=path.stem, text_width=_text_width(tensors), form=form, rank=rank)

    def save(temporary: Path) -> None:
        save_file(tensors, temporary, metadata=described)
        sort_metadata(temporary)

    files.write_atomic(path, save)
    return Exported(
        file=str(path.resolve()),
        adapter=saved.recipe.adapter.name,
        form=form,
        read_by=forms.read_by(saved.recipe.adapter.name, form, base=saved.recipe.base.name),
        rank=rank,
        modules=len({_AFTER_MODULE.sub("", key) for key in tensors}),
        bytes=path.stat().st_size,
    )


def _read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Return tensors, and PEFT's config of a LoRA; files in LyCORIS's keys have none."""
    try:
        with safe_open(path, "np") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
    except SafetensorError as error:
        raise InputError(Problem(str(path), f"is not as lorasweep wrote it: {error}"), subject="export") from error


def _text_width(tensors: Tensors) -> int | None:
    """Return the inputs of a cross-attention's keys, where a factor shows them."""
    for key, tensor in tensors.items():
        if key.endswith(tuple(f"attn2_to_k.{end}" for end in ("lora_down.weight", "hada_w1_b", "diff"))):
            return int(tensor.shape[1])
    return None
