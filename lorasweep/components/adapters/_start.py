"""A LoRA file as the place where training starts: whether it holds what an adapter trains. No torch.

Letters: O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorasweep.components.adapters._file_keys import FileModule, Shape
from lorasweep.components.adapters._file_names import place
from lorasweep.components.adapters._targets import FEED_FORWARD
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.printable import some
from lorasweep.core.safetensors_header import read_header, read_number

KEY = "adapter.init"
FACTORS = {  # of a file, in the order of an adapter's tensors -> names in `Adapter.state_dict`
    "down": "lora_A.weight",
    "up": "lora_B.weight",
    "magnitude": "lora_magnitude_vector.weight",
    "dora_scale": "lora_magnitude_vector.weight",
    **{name: name for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")},
    **{name: name for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")},
    "ia3": "ia3_l",
}
_VECTORS = ("magnitude", "ia3")  # in a file of any number of axes
_WHICH = "give adapter.targets and adapter.text_encoder as it has"
_NOT_TRAINED = {"alpha", "on_input"}


@dataclass(frozen=True)
class Trained:
    """What an adapter trains beside one module."""

    shapes: Sequence[Shape]  # of its tensors, in their order
    scale: float  # alpha / r; of a product of two whole matrices, and of no product, it is not looked at


def place_start(
    file: Path, shapes: Mapping[str, Shape], *, kind: str, trained: Mapping[str, Trained]
) -> dict[str, FileModule]:
    """Find what a .safetensors has for each module that is trained, by `unet.<module>` or `text_encoder.<module>`.

    `shapes` are those of the base's weights; `kind` is lora, loha, lokr or ia3.

    Raises:
        InputError: it is no LoRA of this base, or not of this kind, dim or alpha; has all problems.
    """
    placed = place(file, shapes)
    if problems := list(_problems(file, placed, kind, trained)):
        raise InputError(problems, subject="the LoRA file that training starts from")
    return placed


def _problems(
    file: Path, placed: Mapping[str, FileModule], kind: str, trained: Mapping[str, Trained]
) -> Iterator[Problem]:
    both = {path: module for path, module in placed.items() if path in trained}
    strangers = [path for path, module in both.items() if not _is_of(module, kind, trained[path])]
    alike = {path: module for path, module in both.items() if path not in strangers}
    resized = [path for path, module in alike.items() if not _is_as_large(module, trained[path])]
    header = read_header(file)
    on_input = {path: header[module.keys["on_input"]] for path, module in alike.items() if kind == "ia3"}
    turned = [path for path, told in on_input.items() if read_number(file, told) != path.endswith(FEED_FORWARD)]
    products = {path: module for path, module in alike.items() if module.rank is not None}
    scales = {path: each.scale(lambda key: read_number(file, header[key])) for path, each in products.items()}
    rescaled = [path for path, scale in scales.items() if not math.isclose(scale, trained[path].scale, rel_tol=4e-3)]
    kinds = ", ".join(sorted({both[path].kind for path in strangers}))
    ranks = ", ".join(sorted({str(alike[path].rank) for path in resized}))
    told = ", ".join(sorted({f"{scales[path]:g}" for path in rescaled}))
    for paths, what, hint in (
        (strangers, f"are of another kind in the file ({kinds})", "choose the adapter that the file is of"),
        (resized, f"are of another size in the file (dim {ranks})", "give adapter.dim, or factor, as it has"),
        (turned, "have factors of their other side in the file", "it is no (IA)^3 as the paper has it"),
        (rescaled, f"have another alpha / dim in the file ({told})", "give adapter.alpha as it has"),
        ([path for path in trained if path not in placed], "are trained and not in the file", _WHICH),
        ([path for path in placed if path not in trained], "are in the file and not trained", _WHICH),
    ):
        if paths:
            yield Problem(KEY, f"{len(paths)} modules {what}: {some(paths)}; {file}", hint)


def _is_of(module: FileModule, kind: str, trained: Trained) -> bool:
    factors = module.keys.keys() - _NOT_TRAINED
    return module.kind == kind and factors <= FACTORS.keys() and len(factors) == len(trained.shapes)


def _is_as_large(module: FileModule, trained: Trained) -> bool:
    found = [
        _size(module.shapes[factor], is_vector=factor in _VECTORS) for factor in FACTORS if factor in module.shapes
    ]
    return found == [_size(shape, is_vector=False) for shape in trained.shapes]


def _size(shape: Shape, *, is_vector: bool) -> tuple[int, int]:
    """Return rows and all numbers: a kernel may be flat, and a vector a column."""
    numbers = math.prod(shape)
    return (numbers if is_vector or not shape else shape[0], numbers)
