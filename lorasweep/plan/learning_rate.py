"""The learning rate of every part over a training, as the schedule will give it. No torch.

Takes a recipe and its number of steps. For Prodigy and its like the curve is that of the multiplier.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from lorasweep.components.optimizers._knobs import peak_rates
from lorasweep.core import registry
from lorasweep.core.errors import Problem
from lorasweep.core.records import Recipe


@dataclass(frozen=True)
class Curve:
    """One part's learning rate."""

    part: str  # of the base
    highest: float  # highest, last: lr over all steps, and at the last one
    last: float
    shape: tuple[float, ...]  # at most `points` values, each the mean lr of an equal stretch of the training


def curves(recipe: Recipe, steps: int, *, points: int = 32) -> list[Curve]:
    """Follow the schedule through all `steps`, for every part that the adapter trains."""
    schedule = registry.load("scheduler", recipe.scheduler.name).build(steps, **recipe.scheduler.options)
    found = []
    for part, peak in _peaks(recipe).items():
        columns = min(points, steps)
        edges = [steps * column // columns for column in range(columns + 1)]
        highest, shape = 0.0, []
        for start, end in itertools.pairwise(edges):
            lrs = [schedule(step, peak) for step in range(start, end)]
            highest = max(highest, *lrs)
            shape.append(sum(lrs) / len(lrs))
        found.append(Curve(part, highest, schedule(steps - 1, peak), tuple(shape)))
    return found


def _peaks(recipe: Recipe) -> dict[str, float]:
    """Return peak lr by part; an optimizer's `text_encoder_lr` of null is its `lr`."""
    options, (denoiser, *texts) = recipe.optimizer.options, registry.load("base", recipe.base.name).PARTS
    parts = [denoiser, *(texts if recipe.adapter.options.get("text_encoder") else [])]
    own = {knob: options.get(knob) for knob in ("text_encoder_lr", "loraplus_lr_ratio")}
    return peak_rates(parts, lr=options["lr"], **own)


def problems(recipe: Recipe) -> Iterator[Problem]:
    """Find rates that no part has."""
    try:
        _peaks(recipe)
    except ValueError as error:
        yield Problem(
            "optimizer.text_encoder_lr", str(error), "override: optimizer.text_encoder_lr=null, for that of lr"
        )


def finds_step_size(optimizer: str) -> str | None:
    """Return the knob to turn in place of the lr, of an optimizer that finds its own step size; None for others."""
    module = registry.load("optimizer", optimizer)
    found: str | None = getattr(module, "FINDS_STEP_SIZE", None)
    return found
