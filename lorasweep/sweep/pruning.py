"""Whether a trial goes on after a rung. Its unit of time is exposures per image, as overcooking's is.

The decision is Optuna's pruner's, on a study in memory that holds what was reported so far: one study per
power of ten of the learning rate, so that a slow learner is measured against slow learners. A share of the
trials, drawn by lot, runs its course whatever is said of it: what pruning would have cost is known from them.
Knows nothing about run folders or workers.
"""

from __future__ import annotations

from lorasweep import seeds
from lorasweep.config.sweep_search import PrunerOptions

LOTS = 10**6


def in_exposures(exposures_per_image: float) -> int:
    """Exposures per image as the whole number in which Optuna counts; at least 1."""
    return max(1, round(exposures_per_image))


def is_exempt(options: PrunerOptions, number: int) -> bool:
    """Draw the lot of a trial; the same on every machine and in every attempt."""
    return options.active and seeds.derive(0, "exempt", number) % LOTS < options.exempt * LOTS
