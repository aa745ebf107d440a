"""The adapter object of DoRA: its weight interpolates between the base and the trained layer."""

from __future__ import annotations

from typing import Any

import torch

from lorasweep.components.adapters._peft import PeftAdapter


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
