"""What the modules of a recipe advise, and the recipe does not follow.

Takes a recipe, yields sentences. The ranges are data (`records.Advice`), kept beside what they are about.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from lorasweep.records import Advice, Recipe


def unheeded(recipe: Recipe) -> Iterator[str]:
    """Yield a sentence for every range of the chosen adapter that the recipe leaves, with its reason."""
    name = recipe.adapter.name
    given: tuple[Advice, ...] = getattr(importlib.import_module(f"lorasweep.adapters.{name}"), "ADVICE", ())
    for advice in given:
        group, knob = advice.key.split(".")
        value = getattr(recipe, group).options.get(knob)
        if value is None or (advice.optimizers and recipe.optimizer.name not in advice.optimizers):
            continue
        if advice.low is not None and value < advice.low:
            yield f"{advice.key}={value:g} is below {advice.low:g} with {name}: {advice.reason}"
        if advice.high is not None and value > advice.high:
            yield f"{advice.key}={value:g} is over {advice.high:g} with {name}: {advice.reason}"
