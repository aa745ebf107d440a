"""What the modules of a recipe advise, and the recipe does not follow.

Takes a recipe, yields sentences. The ranges are data (`records.Advice`), kept beside what they are about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lorasweep.core import registry
from lorasweep.core.records import Advice, Recipe


def unheeded(recipe: Recipe) -> Iterator[str]:
    """Yield a sentence for every range of the chosen adapter and optimizer that the recipe leaves.

    Where the adapter has a range for a key, the optimizer's own, which is for any adapter, does not count.
    """
    known: set[str] = set()
    for group, name in (("adapter", recipe.adapter.name), ("optimizer", recipe.optimizer.name)):
        module = registry.load(group, name)
        advice = [each for each in _meant(recipe, getattr(module, "ADVICE", ())) if each.key not in known]
        yield from _left(recipe, name, advice)
        known |= {each.key for each in advice}


def finds_step_size(optimizer: str) -> str | None:
    """The knob to turn in place of the lr, of an optimizer that finds its own step size; None for others."""
    module = registry.load("optimizer", optimizer)
    found: str | None = getattr(module, "FINDS_STEP_SIZE", None)
    return found


def _meant(recipe: Recipe, given: Iterable[Advice]) -> Iterator[Advice]:
    """Those for the recipe's optimizer."""
    return (each for each in given if not each.optimizers or recipe.optimizer.name in each.optimizers)


def _left(recipe: Recipe, name: str, given: Iterable[Advice]) -> Iterator[str]:
    for advice in given:
        group, knob = advice.key.split(".")
        value = getattr(recipe, group).options.get(knob)
        if value is None:
            continue
        if advice.low is not None and value < advice.low:
            yield f"{advice.key}={value:g} is below {advice.low:g} with {name}: {advice.reason}"
        if advice.high is not None and value > advice.high:
            yield f"{advice.key}={value:g} is over {advice.high:g} with {name}: {advice.reason}"
