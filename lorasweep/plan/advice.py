"""What the modules of a recipe advise, and the recipe does not follow.

Takes a recipe, yields sentences. The ranges are data (`records.Advice`), kept beside what they are about.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator

from lorasweep.records import Advice, Recipe


def unheeded(recipe: Recipe) -> Iterator[str]:
    """Yield a sentence for every range of the chosen adapter and optimizer that the recipe leaves."""
    for folder, name in (("adapters", recipe.adapter.name), ("optimizers", recipe.optimizer.name)):
        module = importlib.import_module(f"lorasweep.{folder}.{name}")
        yield from _left(recipe, name, getattr(module, "ADVICE", ()))


def finds_step_size(optimizer: str) -> str | None:
    """The knob to turn in place of the lr, of an optimizer that finds its own step size; None for others."""
    module = importlib.import_module(f"lorasweep.optimizers.{optimizer}")
    found: str | None = getattr(module, "FINDS_STEP_SIZE", None)
    return found


def _left(recipe: Recipe, name: str, given: Iterable[Advice]) -> Iterator[str]:
    for advice in given:
        group, knob = advice.key.split(".")
        value = getattr(recipe, group).options.get(knob)
        if value is None or (advice.optimizers and recipe.optimizer.name not in advice.optimizers):
            continue
        if advice.low is not None and value < advice.low:
            yield f"{advice.key}={value:g} is below {advice.low:g} with {name}: {advice.reason}"
        if advice.high is not None and value > advice.high:
            yield f"{advice.key}={value:g} is over {advice.high:g} with {name}: {advice.reason}"
