"""How much an adapter will train on a base, from the headers of its weight files. No torch, no weights read.

Takes a recipe, gives back counts, or None where the base's files, or the adapter's module, do not tell.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from lorasweep.core import once, registry
from lorasweep.core.protocols import is_text_encoder
from lorasweep.core.records import Recipe

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Trainable:
    """What will train.

    Attributes:
        tensors: the adapter's own.
        parameters: numbers in them; they train in fp32.
    """

    tensors: int
    parameters: int


@once.per(lambda recipe: (recipe.base, repr(recipe.adapter)))
def trainable(recipe: Recipe) -> Trainable | None:
    """Count the adapter's tensors and their numbers."""
    shapes = layer_shapes(recipe)
    if shapes is None:
        return None
    tensors = [tensor for found in shapes.values() for tensor in found]
    return Trainable(tensors=len(tensors), parameters=sum(map(math.prod, tensors)))


def layer_shapes(recipe: Recipe) -> dict[str, list[Shape]] | None:
    """Return the shapes of the adapter's tensors, by the module that they are beside: `unet.<module>`."""
    base, adapter = registry.load("base", recipe.base.name), registry.load("adapter", recipe.adapter.name)
    options = recipe.adapter.options
    weights = base.weight_shapes(recipe.base)
    if weights is None or not hasattr(adapter, "layer_shapes"):
        return None
    everywhere = getattr(adapter, "IN_ALL_MODULES", False)
    scope = "" if everywhere else base.SCOPES[options.get("targets", "full")]
    found = {
        f"{part}.{name}": adapter.layer_shapes(shape, name=name, **options)
        for part, modules in weights.items()
        if options.get("text_encoder") or not is_text_encoder(part)
        for name, shape in modules.items()
        if len(shape) > 1 and re.search(scope, f".{name}")
    }
    return {path: shapes for path, shapes in found.items() if shapes}
