"""A plan's exposures counted the slow way: by taking every step that training would take."""

from __future__ import annotations

import itertools
from collections import Counter

from lorasweep.core.records import Plan, Recipe
from lorasweep.data.order import epoch_steps


def exposures(plan: Plan, recipe: Recipe) -> Counter[int]:
    """How often each image of `plan.trained_on()` is seen, by its place there."""
    options = recipe.train
    steps = itertools.chain.from_iterable(
        epoch_steps(
            plan.trained_on(),
            batch_size=options.batch_size,
            accumulation=options.gradient_accumulation,
            seed=recipe.seed,
            epoch=epoch,
        )
        for epoch in itertools.count()
    )
    seen: Counter[int] = Counter()
    for batches in itertools.islice(steps, plan.steps):
        seen.update(itertools.chain.from_iterable(batches))
    return seen
