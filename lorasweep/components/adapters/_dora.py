"""The adapter object of DoRA: its weight interpolates between the base and the trained layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lorasweep.components.adapters._peft import PeftAdapter

if TYPE_CHECKING:
    from lorasweep.components.adapters._file_keys import FileModule


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
        """A `dora_scale` is over |W|, as ComfyUI reads it; a magnitude is over |W + D|."""
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
        """Alpha / dim * up @ down, what is added to the base's weight before each row is rescaled."""
        return super().delta(layer)

    def delta(self, layer: Any) -> torch.Tensor:
        """The trained layer's weight less the base's: each output's row rescaled to its trained magnitude."""
        base = layer.get_base_layer().weight
        moved = base + self.product(layer)
        by_row = (-1, *(1 for _ in base.shape[1:]))
        magnitude = layer.lora_magnitude_vector[self.name].weight.view(by_row)
        norm = torch.linalg.vector_norm(moved.flatten(1), dim=1).view(by_row)
        return magnitude / norm * moved - base

    def _weigh(self, module: torch.nn.Module, inputs: Any, difference: torch.Tensor) -> torch.Tensor:
        return difference if self.weight == 1 else self.weight * difference
