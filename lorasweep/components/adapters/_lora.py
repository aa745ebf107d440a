"""What LoRA, LoCon, DoRA and DyLoRA have in common, and the adapter objects of those that drop, DoRA and DyLoRA."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig

from lorasweep.components.adapters._file_keys import FileModule
from lorasweep.components.adapters._peft import PeftAdapter, build_peft
from lorasweep.core.protocols import Base, Factors


def draw(values: torch.Tensor, name: str, generator: torch.Generator) -> None:
    """Draw down Kaiming-uniform, up zero, as in the code of Hu et al.; DoRA's magnitudes stay the base's norms."""
    if ".lora_A." in name:
        torch.nn.init.kaiming_uniform_(values, a=5**0.5, generator=generator)
    elif ".lora_B." in name:
        values.zero_()


def build_lora(
    base: Base,
    configs: Mapping[str, PeftConfig],
    *,
    seed: int,
    start: str | None,
    rank_dropout: float,
    module_dropout: float,
) -> PeftAdapter:
    """Put LoRA's layers into the base, by a config per part; see `build_peft`."""
    if not (rank_dropout or module_dropout):
        return build_peft(base, configs, seed=seed, init=draw, start=start)
    adapter = build_peft(base, configs, seed=seed, init=draw, start=start, kind=DroppingAdapter)
    adapter.rank_dropout, adapter.module_dropout = rank_dropout, module_dropout
    return adapter


class DroppingAdapter(PeftAdapter):
    """A `PeftAdapter` that leaves out ranks, of each sample its own, and whole layers, while it trains.

    Source: kohya-ss/sd-scripts, networks/lora.py, LoRAModule.forward.
    """

    rank_dropout = 0.0  # share of ranks; the others count 1 / (1 - share)
    module_dropout = 0.0  # share of layers, which then get no gradient from that batch; the others count as ever

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for layer in self.layers.values():
            layer.lora_A[self.name].register_forward_hook(self._drop_ranks)
            layer.lora_B[self.name].register_forward_hook(self._drop_layer)

    def factors(self) -> None:
        """See `protocols.Factored`: what changes from sample to sample is no product."""

    def _drop_ranks(self, down: torch.nn.Module, inputs: Any, outputs: torch.Tensor) -> torch.Tensor:
        if not (self.rank_dropout and down.training):
            return outputs
        axis = 1 if isinstance(down, torch.nn.Conv2d) else -1
        drawn_BR = torch.rand(len(outputs), outputs.shape[axis], device=outputs.device)
        shape = [1] * outputs.ndim
        shape[0], shape[axis] = drawn_BR.shape
        return outputs * (drawn_BR > self.rank_dropout).view(shape) / (1 - self.rank_dropout)

    def _drop_layer(self, up: torch.nn.Module, inputs: Any, outputs: torch.Tensor) -> torch.Tensor:
        is_left_out = self.module_dropout and up.training and bool(torch.rand(1) < self.module_dropout)
        return torch.zeros_like(outputs) if is_left_out else outputs


class DoraAdapter(PeftAdapter):
    """A `PeftAdapter` whose layers add `weight` times the whole difference, magnitude included.

    PEFT's DoRA module returns what the trained layer has over the base, so a hook on it can scale just that.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        for layer in self.layers.values():
            layer.lora_magnitude_vector[self.name].register_forward_hook(self._weigh)

    def scale_layer(self, layer: Any, weight: float) -> None:
        """Leave the product inside the norm as trained; the hook weighs the difference."""

    def take(self, file: Path) -> dict[str, FileModule]:
        """Read a `dora_scale`, over |W| as ComfyUI has it; a magnitude is over |W + D|."""
        placed = super().take(file)
        with torch.no_grad():
            for path in (path for path, module in placed.items() if "dora_scale" in module.keys):
                layer = self.layers[path]
                base = layer.get_base_layer().weight
                longer = (base + self.product(layer)).flatten(1).norm(dim=1) / base.flatten(1).norm(dim=1)
                magnitude = layer.lora_magnitude_vector[self.name].weight
                magnitude *= longer.view(magnitude.shape)
        return placed

    def product(self, layer: Any) -> torch.Tensor:
        """Return alpha / dim * up @ down, what is added to the base's weight before each row is rescaled."""
        return super().delta(layer)

    def delta(self, layer: Any) -> torch.Tensor:
        """Return the trained layer's weight less the base's: each output's row rescaled to its trained magnitude."""
        base = layer.get_base_layer().weight
        moved = base + self.product(layer)
        by_row = (-1, *(1 for _ in base.shape[1:]))
        magnitude = layer.lora_magnitude_vector[self.name].weight.view(by_row)
        norm = torch.linalg.vector_norm(moved.flatten(1), dim=1).view(by_row)
        return magnitude / norm * moved - base

    def _weigh(self, module: torch.nn.Module, inputs: Any, difference: torch.Tensor) -> torch.Tensor:
        return difference if self.weight == 1 else self.weight * difference


class DyLoraAdapter(PeftAdapter):
    """A `PeftAdapter` with a rank per batch. See `protocols.DrawsPerBatch`.

    With r the full rank and b the drawn one, up[:, :b] @ down[:b] * alpha / b is up @ mask(down) * alpha / r, where the
    mask is r / b for the first b of down's outputs and 0 for the others: so masking what `down` puts out is the
    truncation, its scale and its gradients at once, for linear layers and convolutions alike.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ranks: Sequence[int] = ()  # what may be drawn, each as likely as the others
        self.rank: int | None = None  # the drawn one; None before the first draw, which means all
        for layer in self.layers.values():
            layer.lora_A[self.name].register_forward_hook(self._truncate)

    def draw(self, seed: int) -> None:
        """Draw the rank of the next batch; it acts in train mode only, so judging always sees all of them."""
        self.rank = random.Random(seed).choice(self.ranks)

    def factors(self) -> dict[torch.nn.Module, Factors] | None:
        """Return the products at the drawn rank."""
        found = super().factors()
        if found is None or self.rank is None:
            return found
        return {
            layer: Factors(each.down[: self.rank], each.up[:, : self.rank], each.scale * len(each.down) / self.rank)
            for layer, each in found.items()
        }

    def _truncate(self, down: torch.nn.Module, inputs: Any, outputs: torch.Tensor) -> torch.Tensor:
        if self.rank is None or not down.training:
            return outputs
        axis = 1 if isinstance(down, torch.nn.Conv2d) else -1
        full = outputs.shape[axis]
        mask = torch.zeros(full, device=outputs.device, dtype=outputs.dtype)
        mask[: self.rank] = full / self.rank
        return outputs * (mask.view(-1, 1, 1) if axis == 1 else mask)
