"""Layers and adapter object of a LoRA file: what each kind's factors add to a module's weight and bias.

Letters: O outputs, I inputs, k a kernel's sides, r rank; W the base's weight, D what is added to it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file

from lorasweep.components.adapters._file_keys import FileModule
from lorasweep.components.adapters._file_names import place
from lorasweep.components.adapters._peft import PeftAdapter, new_name
from lorasweep.components.adapters._targets import find_weighted
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.printable import some
from lorasweep.core.protocols import Base, frozen_weight

Factors = Mapping[str, torch.Tensor]


def _lora(weight: torch.Tensor, own: Factors) -> torch.Tensor:
    up, down = own["up"].flatten(1), own["down"].flatten(1)
    return _tucker(own["mid"], up.T, down) if "mid" in own else up @ down


def _loha(weight: torch.Tensor, own: Factors) -> torch.Tensor:
    first, second = (_product(own, f"hada_w{n}", own.get(f"hada_t{n}")) for n in (1, 2))
    return first * second


def _lokr(weight: torch.Tensor, own: Factors) -> torch.Tensor:
    small, large = _product(own, "lokr_w1"), _product(own, "lokr_w2", own.get("lokr_t2"))
    return torch.kron(small.flatten(1), large.flatten(1))


def _glora(weight: torch.Tensor, own: Factors) -> torch.Tensor:
    """Return W A + B, A and B of low rank; A acts on W's inputs."""
    a1, a2, b1, b2 = (own[name].flatten(1) for name in ("a1", "a2", "b1", "b2"))
    return torch.einsum("oi...,ir,rj->oj...", weight, a1, a2) + (b1 @ b2).reshape(weight.shape)


def _oft(weight: torch.Tensor, own: Factors) -> torch.Tensor:
    """Rotate blocks of outputs, by Cayley's transform of a skew matrix each, and rescale; alpha bounds the angle."""
    blocks = own["oft_blocks"]
    skew, one = blocks - blocks.mT, torch.eye(blocks.shape[-1], device=blocks.device)
    if "alpha" in own and (bound := own["alpha"].item() * len(weight)) > 0:
        skew = skew * (bound / skew.norm().clamp(min=bound))
    turned = torch.linalg.solve(one - skew, one + skew).mT @ weight.reshape(*blocks.shape[:2], -1)
    if "rescale" in own:
        turned = turned * own["rescale"].reshape(*blocks.shape[:2], 1)
    return turned.reshape(weight.shape) - weight


def _ia3(weight: torch.Tensor, own: Factors) -> torch.Tensor:
    factors, ones = own["ia3"].flatten(), [1] * (weight.dim() - 2)
    return weight * (factors.view(1, -1, *ones) if own["on_input"].item() else factors.view(-1, 1, *ones))


def _full(weight: torch.Tensor, own: Factors) -> torch.Tensor:
    return own["diff"] if "diff" in own else torch.zeros_like(weight)


_ADDED: dict[str, Callable[[torch.Tensor, Factors], torch.Tensor]] = {
    "lora": _lora,
    "loha": _loha,
    "lokr": _lokr,
    "glora": _glora,
    "oft": _oft,
    "ia3": _ia3,
    "full": _full,
}


def _product(own: Factors, side: str, core: torch.Tensor | None = None) -> torch.Tensor:
    """Return a matrix as it is, or of low rank, or of low rank with a core that has the kernel."""
    if side in own:
        return own[side]
    a, b = own[f"{side}_a"], own[f"{side}_b"]
    return a @ b.flatten(1) if core is None else _tucker(core, a, b)


def _tucker(core_rrk: torch.Tensor, a_rO: torch.Tensor, b_rI: torch.Tensor) -> torch.Tensor:
    return torch.einsum("ij...,io,jn->on...", core_rrk, a_rO, b_rI)


class FileLayer(torch.nn.Module, BaseTunerLayer):
    """A module with what a file adds to it; holds one adapter. One of PEFT's tuner layers, so that others find it.

    `scale` is the product's, alpha / r; `factors` are the file's tensors in fp32.
    """

    adapter_layer_names = ("factors",)
    other_param_names = ("weight_of",)

    def __init__(
        self, base_layer: torch.nn.Module, name: str, module: FileModule, scale: float, factors: dict[str, torch.Tensor]
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.module, self.scale = module, scale
        self.factors = torch.nn.ModuleDict({name: torch.nn.ParameterDict(factors)})
        self.weight_of = {name: 1.0}
        self.set_adapter(name)

    def set_scale(self, name: str, weight: float) -> None:
        """Set the sampling weight."""
        self.weight_of[name] = weight

    def added(self, name: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return what the base's weight and bias gain at weight 1, fp32.

        A `dora_scale` is taken as ComfyUI takes it: over the rows of W, or the columns of W + D. A magnitude of
        PEFT's is over the rows of W + D, as trained.
        """
        plain: Any = self.get_base_layer()
        factors: Any = self.factors[name]
        own = dict(factors.items())
        weight = frozen_weight(plain).to(next(iter(own.values())).device).float()
        product = self.module.rows_of_product(_ADDED[self.module.kind](weight, own))
        change = self.scale * product.reshape(weight.shape)
        if "dora_scale" in own or "magnitude" in own:
            moved = weight + change
            change = moved * _lengths(weight, moved, own) - weight
        if "up_bias" in own:
            return change, self.scale * own["up_bias"]
        return change, own.get("diff_b")

    def forward(self, inputs: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        """Return the base's answer, and in fp32 what the same module answers with only what is added to it."""
        outputs: torch.Tensor = self.base_layer(inputs, *arguments, **options)
        active = [name for name in self.active_adapters if name in self.factors]
        if self.disable_adapters or not active:
            return outputs
        (name,) = active
        plain: Any = self.get_base_layer()
        weight, bias = self.added(name)
        tensors = {"weight": self.weight_of[name] * weight}
        if plain.bias is not None:
            tensors["bias"] = torch.zeros_like(plain.bias).float() if bias is None else self.weight_of[name] * bias
        with _as_its_class(plain):
            more: torch.Tensor = torch.func.functional_call(plain, tensors, (inputs.float(),))
        return outputs + more.to(outputs.dtype)


@contextlib.contextmanager
def _as_its_class(layer: Any) -> Iterator[None]:
    """Have a layer compute with whatever weight it holds, also where it is made to read stored ones."""
    own = layer.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if own is not None:
            layer.forward = own


def _lengths(weight: torch.Tensor, moved: torch.Tensor, own: Factors) -> torch.Tensor:
    """Return what each row or column of a moved DoRA weight is multiplied by."""
    ones = [1] * (weight.dim() - 2)
    if "magnitude" in own:
        return (own["magnitude"].flatten() / moved.flatten(1).norm(dim=1)).view(-1, 1, *ones)
    scale = own["dora_scale"]
    if scale.shape[0] == weight.shape[0]:
        return (scale.flatten() / weight.flatten(1).norm(dim=1)).view(-1, 1, *ones)
    return (scale.flatten() / moved.transpose(0, 1).flatten(1).norm(dim=1)).view(1, -1, *ones)


class FileAdapter(PeftAdapter):
    """A `PeftAdapter` of `FileLayer`s."""

    file: Path  # what it was read from
    keys: Mapping[str, str]  # of the file, by the names of `state_dict`

    def delta(self, layer: Any) -> torch.Tensor:
        """Return what one layer's base weight gains at weight 1."""
        return layer.added(self.name)[0]

    @contextlib.contextmanager
    def merged(self, weight: float) -> Iterator[None]:
        """Merge as the others do, biases too."""
        biased = [layer for layer in self.layers.values() if {"diff_b", "up_bias"} & layer.factors[self.name].keys()]
        found = [(layer.get_base_layer(), layer.added(self.name)[1]) for layer in biased]
        kept = [module.bias.data for module, _ in found]
        try:
            for (module, bias), own in zip(found, kept, strict=True):
                module.bias.data = own + weight * bias.detach()
            with super().merged(weight):
                yield
        finally:
            for (module, _), own in zip(found, kept, strict=True):
                module.bias.data = own

    def file_names(self) -> dict[str, str]:
        """Return the file's own keys."""
        return dict(self.keys)

    def save(self, path: Path) -> None:
        """Copy the file."""
        shutil.copyfile(self.file, path)


def build_file(base: Base, file: Path) -> FileAdapter:
    """Put the layers into the base; active, at weight 1, in fp32. Raises InputError as `file.build` does."""
    plain: dict[str, Any] = {
        f"{part}.{path}": module for part, model in base.parts.items() for path, module in find_weighted(model)
    }
    placed = place(file, {path: tuple(frozen_weight(module).shape) for path, module in plain.items()})
    try:
        tensors = {key: tensor.float() for key, tensor in load_file(file).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(Problem(str(file), f"cannot be read: {error}"), subject="the LoRA file") from error
    _check_values(file, placed, tensors, plain)
    name = new_name(base)
    keys: dict[str, str] = {}
    for path, module in placed.items():
        part, inner = path.split(".", 1)
        own = {factor: key for factor, key in module.keys.items() if factor != "alpha" or module.kind == "oft"}
        keys |= {f"{path}.factors.{factor}": key for factor, key in own.items()}
        factors = {factor: module.rows_of(factor, tensors[key]).to(base.device) for factor, key in own.items()}
        held = base.parts[part].get_submodule(inner)
        scale = module.scale(lambda key: tensors[key].item())
        base.parts[part].set_submodule(inner, FileLayer(held, name, module, scale, factors))
    parts = {path.split(".", 1)[0] for path in placed}
    adapter = FileAdapter(name, {}, {part: model for part, model in base.parts.items() if part in parts})
    adapter.file, adapter.keys = file, keys
    return adapter


class Files(FileAdapter):
    """The file that was loaded last; the base itself until the first."""

    def __init__(self, base: Base) -> None:
        super().__init__(new_name(base), {}, {})
        self._base = base

    def load(self, path: Path) -> None:
        """Put a file in the place of the one before; raises as `build_file`, and then there is none."""
        self.remove()
        self.__dict__ = {**vars(build_file(self._base, path)), "_base": self._base}


def _check_values(file: Path, placed: Mapping[str, FileModule], tensors: Factors, plain: Mapping[str, Any]) -> None:
    unread = set().union(*(module.unread for module in placed.values()))
    spoilt = [key for key, tensor in tensors.items() if key not in unread and not tensor.isfinite().all()]
    without = [
        module.name
        for path, module in placed.items()
        if {"diff_b", "up_bias"} & module.keys.keys() and plain[path].bias is None
    ]
    idle = [
        module.name
        for module in placed.values()
        if "alpha" in module.keys and tensors[module.keys["alpha"]].numel() != 1
    ]
    problems = [
        Problem(str(file), f"{len(names)} of {len(held)} {what} ({some(names)})", hint)
        for names, held, what, hint in (
            (spoilt, tensors, "tensors hold NaN or infinity", "the training diverged: take an earlier file"),
            (without, placed, "modules have a bias in the file and none in this base", "is it of another base?"),
            (idle, placed, "modules have an alpha that is no number", ""),
        )
        if names
    ]
    if problems:
        raise InputError(problems, subject="the LoRA file")
