"""How much an adapter will train on a base, from the headers of its weight files. No torch, no weights read.

Takes a recipe, gives back counts, or None where the base's files do not tell.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass

from lorasweep.core.records import Recipe


@dataclass(frozen=True)
class Trainable:
    """What will train.

    Attributes:
        tensors: the adapter's own.
        parameters: numbers in them; they train in fp32.
    """

    tensors: int
    parameters: int


def trainable(recipe: Recipe) -> Trainable | None:
    """Count the adapter's tensors and their numbers."""
    base = importlib.import_module(f"lorasweep.components.bases.{recipe.base.name}")
    weights = {part: base.weight_shapes(recipe.base, part) for part in ("unet", "text_encoder")}
    if None in weights.values():
        return None
    adapter = importlib.import_module(f"lorasweep.components.adapters.{recipe.adapter.name}")
    shapes = adapter.trained_shapes(weights, **recipe.adapter.options)
    return Trainable(tensors=len(shapes), parameters=sum(map(math.prod, shapes)))
