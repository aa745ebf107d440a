"""A LoRA file of any trainer, as an adapter: to judge it, not to train it.

Kohya's and LyCORIS's LoRA, LoCon, LoHa, LoKr, GLoRA, OFT, (IA)^3, DyLoRA, DoRA, full differences and norms;
diffusers', PEFT's, OneTrainer's, ai-toolkit's, SimpleTuner's and ComfyUI's keys. What a file is comes from its keys
and shapes; every key is accounted for, or the file is refused. `describe` needs no torch.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.components.adapters import _file_names
from lorasweep.components.adapters._file_keys import FileModule, Shape, read_modules
from lorasweep.core import files, finite
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.printable import some
from lorasweep.core.protocols import Base
from lorasweep.core.safetensors_header import read_metadata

if TYPE_CHECKING:
    from lorasweep.components.adapters._file_layers import FileAdapter

READ_BY = ()  # as it was judged: which programs read the file itself depends on the file
_BESIDE = {"diff_b", "up_bias"}  # what acts where the product is zero; a DoRA's lengths learn with it


@dataclass(frozen=True)
class Description:
    """What a LoRA file is, and what its trainer says of it.

    Kinds are lora, locon (a LoRA with a product on a kernel wider than 1 x 1), dora, loha, lokr, glora, oft, ia3, full
    (whole differences) and norm.
    """

    kinds: Mapping[str, int]  # number of modules by kind
    family: str | None  # of the base, told by names and shapes; None when they do not tell
    dims: Mapping[int, int]  # number of modules by rank; those without one are left out
    text_encoder: bool  # whether it changes a text encoder
    steps: int | None  # of its training, as kohya writes them; None when it does not say
    epoch: int | None  # likewise
    tag_frequency: Mapping[str, Mapping[str, int]]  # how often each tag was in the captions, by folder; may be empty


def describe(path: str | Path) -> Description:
    """Read the header of a file.

    Raises:
        InputError: it is no LoRA that is read.
    """
    modules, told = read_modules(Path(path)), read_metadata(Path(path))
    return Description(
        kinds=dict(Counter(map(_kind, modules.values())).most_common()),
        family=_file_names.family(modules),
        dims=dict(Counter(module.rank for module in modules.values() if module.rank is not None).most_common()),
        text_encoder=any(_file_names.is_text(name) for name in modules),
        steps=_count(told.get("ss_steps")),
        epoch=_count(told.get("ss_epoch")),
        tag_frequency=_tags(told.get("ss_tag_frequency")),
    )


def problems_with(path: str | Path, shapes: Mapping[str, Shape]) -> list[Problem]:
    """Find what keeps a file from acting on a base whose weights have these shapes."""
    try:
        _file_names.place(Path(path), shapes)
    except InputError as error:
        return error.problems
    return broken(path)


def unreadable(path: str | Path) -> list[Problem]:
    """Return what keeps a file from being a LoRA at all; nothing when it is one."""
    try:
        describe(path)
    except InputError as error:
        return error.problems
    return broken(path)


def broken(path: str | Path) -> list[Problem]:
    """Return what of a whole file is no number."""
    if spoilt := finite.broken_tensors(Path(path), files.file_digest(Path(path))):
        unread = set().union(*(module.unread for module in read_modules(Path(path)).values()))
        spoilt = [key for key in spoilt if key not in unread]
    if not spoilt:
        return []
    message = f"{len(spoilt)} tensors hold NaN or infinity ({some(spoilt)})"
    return [Problem(str(path), message, "the training diverged: take an earlier file")]


def changes_nothing(path: str | Path) -> bool:
    """Tell whether each of its products has a factor of zeros, as before any training."""
    zeros = finite.zero_tensors(Path(path))
    return all(_is_idle(module, zeros) for module in read_modules(Path(path)).values())


def build(base: Base, *, seed: int, path: str) -> FileAdapter:
    """Put what a .safetensors adds into `base`, at weight 1; nothing is drawn.

    Raises:
        InputError: it is no LoRA that is read, or it is of another base, or holds NaN; the base is as it was.
    """
    from lorasweep.components.adapters._file_layers import build_file

    return build_file(base, Path(path))


def _is_idle(module: FileModule, zeros: Collection[str]) -> bool:
    idle = {factor for factor, key in module.keys.items() if key in zeros}
    told = module.keys.keys() - {"alpha", "on_input"}
    return told <= idle or (module.kind in ("lora", "loha", "lokr") and not told & _BESIDE and bool(told & idle))


def _kind(module: FileModule) -> str:
    if module.kind == "full" and len(module.shapes.get("diff", (0,))) == 1:
        return "norm"
    if {"dora_scale", "magnitude"} & module.shapes.keys():
        return "dora"
    kernel = module.shapes.get("mid") or module.shapes.get("down", ())
    return "locon" if math.prod(kernel[2:]) > 1 else module.kind


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,12}", text) else None


def _tags(text: str | None) -> dict[str, dict[str, int]]:
    """Read kohya's `ss_tag_frequency`; what is not shaped like one is left out."""
    try:
        told = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    folders = told.items() if isinstance(told, dict) else ()
    return {
        folder: {tag: count for tag, count in tags.items() if isinstance(count, int)}
        for folder, tags in folders
        if isinstance(tags, dict)
    }
