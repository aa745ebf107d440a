"""Keys of LoRA files, of any trainer: which module each names, and which factor of which kind. No torch.

A file is what its keys and shapes are. Of its metadata one thing is read, the alpha of PEFT's files, which is
nowhere else; never a name.

Letters: O outputs, I inputs, k the kernel's numbers (1 for a linear layer), r the rank.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasweep.core.errors import InputError, Problem
from lorasweep.core.printable import some
from lorasweep.core.safetensors_header import Tensor, read_header, read_metadata

Shape = tuple[int, ...]
_LORA = re.compile(
    r"(?P<module>.+?)(\.lora_linear_layer\.|[._]lora(?P<stream>[12]?)[._])(?P<factor>down|up|mid|A|B)"
    r"(\.(?!weight|bias)\w+)?\.(?P<end>weight|bias)"
)
_OTHER = re.compile(
    r"(?P<module>.+?)\.(?P<factor>alpha|dora_scale|lora_magnitude_vector|hada_(w[12]_[ab]|t[12])"
    r"|lokr_(w[12]|w[12]_[ab]|t2)|oft_blocks|rescale|[ab][12]|on_input|weight|diff|diff_b|w_norm|b_norm)(\.weight)?"
)
_RENAMED = {
    "A": "down",
    "B": "up",
    "lora_magnitude_vector": "magnitude",
    "weight": "ia3",
    "w_norm": "diff",
    "b_norm": "diff_b",
}
_BY_ROW = {"up", "up_bias", "diff", "diff_b", "dora_scale", "magnitude", "hada_w1_a", "hada_w2_a", "b1"}  # O first
_ALIKE = {"alpha", "down", "hada_w1_b", "hada_w2_b", "a1", "a2", "b2"}  # the same for every output
_WHOLE = {f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")}  # rows of the product alone
_EITHER = {"alpha", "dora_scale", "magnitude", "diff_b", "up_bias"}  # beside what makes the kind
_KINDS: tuple[tuple[str, frozenset[str], frozenset[str]], ...] = (  # kind, factors that it has, and may have
    ("lora", frozenset({"down", "up"}), frozenset({"mid"})),
    ("loha", frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}), frozenset({"hada_t1", "hada_t2"})),
    *(
        ("lokr", frozenset({*first, *second}), frozenset({"lokr_t2"} if len(second) == 2 else ()))
        for first in (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b"))
        for second in (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"))
    ),
    ("glora", frozenset({"a1", "a2", "b1", "b2"}), frozenset()),
    ("oft", frozenset({"oft_blocks"}), frozenset({"rescale"})),
    ("ia3", frozenset({"ia3", "on_input"}), frozenset()),
    ("full", frozenset({"diff"}), frozenset()),
    ("full", frozenset(), frozenset()),  # a bias alone
)
_NOT_READ = (
    (r"\.oft_R\.", "PEFT's OFT"),
    (r"\.boft_|\.oft_blocks$", "BOFT"),  # LyCORIS's blocks, of as many turns as they have first sides
    (r"^bundle_emb\.", "embedding"),
)
_LYCORIS_2 = str.maketrans("12", "21")  # which calls the factors of each of GLoRA's products the other way round
_FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}


@dataclass(frozen=True)
class FileModule:
    """What a file has for one module."""

    name: str  # as the file has it
    kind: str  # lora, loha, lokr, glora, oft, ia3 or full
    keys: Mapping[str, str]  # of the file, by factor
    shapes: Mapping[str, Shape] = field(repr=False)  # by factor
    told_scale: float  # of the product, alpha / r, where alpha is no tensor of the file
    # The first output that is meant, and how many, going on at the start after the last; None: all of them.
    rows: tuple[int, int] | None = None

    def can_be_cut(self, outputs: int) -> bool:
        """Tell whether each of so many outputs has its own rows of factors."""
        own = self.keys.keys() - _ALIKE
        by_row = own - _WHOLE
        is_as_high = by_row == own or (self.output is not None and self.output[0] == outputs)
        return is_as_high and by_row <= _BY_ROW and all(self.shapes[factor][:1] == (outputs,) for factor in by_row)

    def cut(self, start: int, count: int) -> FileModule:
        """Return it for some of its outputs."""
        shapes = {factor: (count, *shape[1:]) if factor in _BY_ROW else shape for factor, shape in self.shapes.items()}
        return dataclasses.replace(self, shapes=shapes, rows=(start, count))

    def rows_of(self, factor: str, tensor: Any) -> Any:
        """Return the rows of one of its tensors that are meant."""
        return self.cut_rows(tensor) if factor in _BY_ROW else tensor

    def rows_of_product(self, product: Any) -> Any:
        """Return the rows of what its factors make, where they have none of their own."""
        return self.cut_rows(product.flatten(1)) if self.keys.keys() & _WHOLE else product

    def cut_rows(self, tensor: Any) -> Any:
        """Return the rows that are meant of a tensor that has all of them."""
        if self.rows is None:
            return tensor
        start, count = self.rows
        end = start + count
        return tensor[start:end] if end <= len(tensor) else tensor.roll(-start, 0)[:count]

    @property
    def rank(self) -> int | None:
        """Of the product; None where it has none."""
        shapes = self.shapes
        for factor in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b", "a2"):
            if shapes.get(factor):
                return shapes[factor][0]
        return None

    @property
    def unread(self) -> set[str]:
        """The key of an alpha beside no rank, which no loader looks at: a whole LoKr's is often beyond fp16."""
        return {self.keys["alpha"]} if "alpha" in self.keys and self.rank is None and self.kind != "oft" else set()

    def scale(self, alpha_of: Callable[[str], float]) -> float:
        """Return alpha / r, alpha by its key; loaders take a product of two whole matrices as it is."""
        if self.rank is None or "alpha" not in self.keys:
            return self.told_scale
        return alpha_of(self.keys["alpha"]) / self.rank

    @property
    def output(self) -> tuple[int, int] | None:
        """Outputs, and all numbers, of the weight that it was made for; None when its own factors disagree."""
        try:
            found = _output(self.kind, self.shapes)
        except (IndexError, ValueError):
            return None
        if found is None or self.rows is None or not self.keys.keys() & _WHOLE:
            return found
        return self.rows[1], found[1] // found[0] * self.rows[1]


def read_modules(path: Path) -> dict[str, FileModule]:
    """Sort a file's keys by the module that they name.

    Raises:
        InputError: it is no safetensors file, or has keys that are of no kind that is read; counts them.
    """
    try:
        tensors, metadata = read_header(path), read_metadata(path)
    except ValueError as error:
        message = f"must be a LoRA in a .safetensors, got one {error}"
        raise InputError(Problem(str(path), message), subject="the LoRA file") from error
    found: dict[str, dict[str, str]] = {}
    strange = []
    for key in tensors:
        split = _split(key)
        if split is None or split[1] in found.get(split[0], ()) or 0 in tensors[key].shape:
            strange.append(key)
        else:
            found.setdefault(split[0], {})[split[1]] = key
    config = _peft_config(path, metadata)
    modules = {}
    for name, keys in found.items():
        kind = _kind(set(keys))
        if kind == "glora" and len(wide := tensors[keys["a1"]].shape) > 1 and wide[0] < wide[1]:
            keys = {factor.translate(_LYCORIS_2): key for factor, key in keys.items()}
        shapes = {factor: tensors[key].shape for factor, key in keys.items()}
        if kind and (kind != "oft" or len(shapes["oft_blocks"]) == 3):
            modules[name] = FileModule(name, kind, keys, shapes, _told_scale(name, shapes, config))
        else:
            strange += keys.values()
    problems = [*_strange(path, strange, len(tensors)), *_not_floats(path, modules, tensors)]
    if not all(math.isfinite(module.told_scale) for module in modules.values()):
        problems.append(Problem(str(path), "has an alpha in its metadata that is no finite number"))
    if not tensors:
        problems = [Problem(str(path), "must be a LoRA, got a file without tensors")]
    if problems:
        raise InputError(problems, subject="the LoRA file")
    return modules


def _split(key: str) -> tuple[str, str] | None:
    """Return module and factor of a key."""
    if match := _LORA.fullmatch(key):
        factor = _RENAMED.get(match["factor"], match["factor"])
        if match["end"] == "bias":
            factor = f"{factor}_bias"
        return _plain(match["module"]) + (match["stream"] or ""), factor
    if match := _OTHER.fullmatch(key):
        return _plain(match["module"]), _RENAMED.get(match["factor"], match["factor"])
    return None


def _plain(module: str) -> str:
    """Return a module's name without the attention processors that diffusers once put into it."""
    return re.sub(r"\.processor\.(to_[qkv]|to_out)$", r".\1", module)


def _kind(factors: set[str]) -> str | None:
    own = factors - _EITHER
    for kind, must, may in _KINDS:
        if must <= own <= must | may and (own or "diff_b" in factors):
            return kind
    return None


def _output(kind: str, shapes: Mapping[str, Shape]) -> tuple[int, int] | None:
    if kind == "lora":
        down, up, mid = shapes["down"], shapes["up"], shapes.get("mid", ())
        fits = down[0] == (mid[1] if mid else up[1]) and (not mid or mid[0] == up[1])
        return (up[0], up[0] * math.prod(down[1:]) * math.prod(mid[2:])) if fits else None
    if kind == "loha":
        sides = {_pair(shapes[f"hada_w{n}_a"], shapes[f"hada_w{n}_b"], shapes.get(f"hada_t{n}")) for n in (1, 2)}
        return sides.pop() if len(sides) == 1 else None
    if kind == "lokr":
        first = shapes.get("lokr_w1") or _whole(shapes, "lokr_w1")
        second = shapes.get("lokr_w2") or _whole(shapes, "lokr_w2")
        return None if None in (first, second) else (first[0] * second[0], math.prod(first) * math.prod(second))
    if kind == "glora":
        return _pair(shapes["b1"], shapes["b2"], None)
    diff = shapes.get("diff", ())
    return (diff[0], math.prod(diff)) if diff else None


def _whole(shapes: Mapping[str, Shape], side: str) -> Any:
    pair = _pair(shapes[f"{side}_a"], shapes[f"{side}_b"], shapes.get("lokr_t2") if side.endswith("2") else None)
    return pair and (pair[0], pair[1] // pair[0])


def _pair(a: Shape, b: Shape, core: Shape | None) -> tuple[int, int] | None:
    """Count outputs and all numbers of a product a @ b, or of a Tucker product whose core has the kernel."""
    if core is None:
        return (a[0], a[0] * math.prod(b[1:])) if a[1] == b[0] else None
    return (a[1], a[1] * b[1] * math.prod(core[2:])) if (a[0], b[0]) == core[:2] else None


def _peft_config(path: Path, metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """Find PEFT's config, with the alpha of files without one: in the metadata, or beside the file."""
    text = metadata.get("lora_adapter_metadata", "")
    beside = path.with_name("adapter_config.json")
    try:
        if not text and path.name == "adapter_model.safetensors" and beside.is_file():
            text = beside.read_text(encoding="utf-8")
        config = json.loads(text or "{}", parse_int=float)
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _told_scale(name: str, shapes: Mapping[str, Shape], config: Mapping[str, Any]) -> float:
    """Return alpha / r by PEFT's config; 1 where nobody tells."""
    beginnings = ("unet.", "transformer.", "text_encoder.", "text_encoder_2.")
    part = next((beginning for beginning in beginnings if name.startswith(beginning)), "")
    own = config.get(f"{part}alpha_pattern")
    alphas = own.items() if isinstance(own, dict) else ()
    first = next((value for ending, value in alphas if f".{name}".endswith(f".{ending}")), None)
    alpha = config.get(f"{part}lora_alpha") if first is None else first
    if not shapes.get("down") or not isinstance(alpha, float):
        return 1.0
    rank = shapes["down"][0]
    return alpha / (math.sqrt(rank) if config.get(f"{part}use_rslora") else rank)


def _strange(path: Path, keys: list[str], total: int) -> Iterator[Problem]:
    rest = list(keys)
    for pattern, what in _NOT_READ:
        of_it = [key for key in rest if re.search(pattern, key)]
        rest = [key for key in rest if key not in of_it]
        if of_it:
            message = f"{len(of_it)} of {total} keys are of {what}, which is not read ({some(of_it)})"
            yield Problem(str(path), message, "merge it with the tools of its trainer, and extract a LoRA")
    if rest:
        hint = "a base's own weights are for base.path" if len(rest) == total else "was it made by another program?"
        yield Problem(str(path), f"{len(rest)} of {total} keys are no LoRA's ({some(rest)})", hint)


def _not_floats(path: Path, modules: Mapping[str, FileModule], tensors: Mapping[str, Tensor]) -> Iterator[Problem]:
    wrong = [
        key
        for module in modules.values()
        for factor, key in module.keys.items()
        if factor not in ("alpha", "on_input") and tensors[key].dtype not in _FLOATS
    ]
    if wrong:
        types = ", ".join(sorted({tensors[key].dtype for key in wrong}))
        yield Problem(str(path), f"{len(wrong)} tensors are stored as {types}, which is not read ({some(wrong)})")
