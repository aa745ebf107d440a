"""The adapter object of DyLoRA: PEFT's LoRA layers, truncated at a drawn rank while training.

Letters: r the full rank, b the drawn one. up[:, :b] @ down[:b] * alpha / b is up @ mask(down) * alpha / r,
where the mask is r / b for the first b of down's outputs and 0 for the others: so masking what `down` puts
out is the truncation, its scale and its gradients at once, for linear layers and convolutions alike.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from lorasweep.components.adapters._peft import PeftAdapter
from lorasweep.core.protocols import Factors


class DyLoraAdapter(PeftAdapter):
    """A `PeftAdapter` with a rank per batch. See `protocols.DrawsPerBatch`.

    Attributes:
        ranks: what may be drawn, each as likely as the others.
        rank: the drawn one; None before the first draw, which means all.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ranks: Sequence[int] = ()
        self.rank: int | None = None
        for layer in self.layers.values():
            layer.lora_A[self.name].register_forward_hook(self._truncate)

    def draw(self, seed: int) -> None:
        """Draw the rank of the next batch; it acts in train mode only, so judging always sees all of them."""
        self.rank = random.Random(seed).choice(self.ranks)

    def factors(self) -> dict[torch.nn.Module, Factors] | None:
        """The products at the drawn rank."""
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
