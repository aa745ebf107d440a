"""In which forms an adapter can be written, and which programs read each of them as it was judged.

    factors   the adapter's own tensors: small
    diff      what it adds to each weight at weight 1 (LyCORIS's `full`): as large as the base's weights
    lora      the same as a plain LoRA of full rank: up to twice as large, read by every program

Who reads an adapter's own tensors is its module's `READ_BY`. No torch.

Source: the readers' own code. ComfyUI, comfy/lora.py and comfy/weight_adapter; Forge, backend/patcher/lora.py
and packages_3rdparty/comfyui_lora_collection; A1111, extensions-builtin/Lora; kohya-ss/sd-scripts,
networks/merge_lora.py and networks/lora.py, which know LoRA alone; diffusers 0.42.1,
loaders/lora_conversion_utils.py, which knows LoRA and misreads `dora_scale`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from lorasweep.core import registry
from lorasweep.core.errors import InputError, Problem

Form = Literal["factors", "diff", "lora"]
READERS = {
    "comfyui": "ComfyUI",
    "forge": "Forge",
    "a1111": "A1111",
    "kohya": "kohya's sd-scripts",
    "diffusers": "diffusers",
}
_DIFF_READ_BY = ("comfyui", "forge", "a1111")
_TRANSFORMERS_READ_BY = ("comfyui", "diffusers")  # under the names that a transformer's modules have in diffusers


def read_by(adapter: str, form: Form, *, base: str | None = None) -> tuple[str, ...]:
    """Return the programs of `READERS` that read this form of this kind of adapter, on a base, as it was judged."""
    if form == "factors":
        readers = tuple(getattr(registry.load("adapter", adapter), "READ_BY", ()))
    else:
        readers = _DIFF_READ_BY if form == "diff" else tuple(READERS)
    module = None if base is None else registry.load("base", base)
    if module is None or "transformer" not in module.PARTS:
        return readers
    able = getattr(module, "READ_BY", ()) or _TRANSFORMERS_READ_BY
    return tuple(reader for reader in readers if reader in able)


def names_readers(adapter: str) -> bool:
    """Tell whether an adapter says who reads its file, as all of lorasweep's own do."""
    return hasattr(registry.load("adapter", adapter), "READ_BY")


def smallest_form(adapter: str, readers: Collection[str] = (), *, base: str | None = None) -> Form:
    """Return the smallest form that all `readers` read.

    With none named: the factors, unless ComfyUI and Forge have no reader for them; then what every program
    reads. A plugin's adapter that names no readers at all: its own tensors.

    Raises:
        InputError: one of `readers` is none of `READERS`, or reads no form of an adapter of this base.
    """
    if unknown := sorted(set(readers) - set(READERS)):
        raise InputError(Problem("readers", f"not known: {', '.join(unknown)}", f"known: {', '.join(READERS)}"))
    if deaf := [reader for reader in readers if reader not in (able := read_by(adapter, "lora", base=base))]:
        message = f"must be of {names(able)}, which read an adapter of {base}, got {', '.join(deaf)}"
        raise InputError(Problem("--for", message, "leave it out for the file that these read"), subject="export")
    wanted = set(readers) or {"comfyui", "forge"}
    if wanted <= set(read_by(adapter, "factors")) or not (readers or names_readers(adapter)):
        return "factors"
    return "diff" if readers and wanted <= set(_DIFF_READ_BY) else "lora"


def plain_form(adapter: str, form: Form) -> Form:
    """Return the form, or the factors where these are a plain LoRA already, which all programs read."""
    is_lora = set(read_by(adapter, "factors")) == set(READERS)
    return "factors" if form == "lora" and is_lora else form


def names(readers: Iterable[str]) -> str:
    """Name programs as people write them: `ComfyUI, Forge and A1111`."""
    *most, last = [READERS[reader] for reader in readers]
    return f"{', '.join(most)} and {last}" if most else last
