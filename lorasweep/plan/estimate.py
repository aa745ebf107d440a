"""How long cooking takes on this machine, before anything runs: by the speed of the last run, else a default.

Takes plans and recipes, gives seconds. Knows nothing about torch or about sweeps.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from statistics import fmean

from lorasweep import speed
from lorasweep.records import LauncherOptions, Plan, Recipe

# Of one CPU worker with one thread, a LoRA on the dollhouse at batch 4: forward, backward, AdamW.
DEFAULT_PIXELS_PER_S = 12.0 * 64 * 64


def trial_seconds(plan: Plan, recipe: Recipe) -> float:
    """Estimate one trial in one worker: training and sampling; judging on probes is left out.

    The speed is what the last run with this base measured on this machine, else a default; work scales with
    the area of the images.
    """
    sample = recipe.sample
    pictures = sum(map(len, plan.prompts.values())) * (
        len(sample.weights) * len(sample.seeds) + (len(plan.rungs) - 1) * len(sample.rung_seeds)
    )
    side = recipe.base.resolution
    sample_area = (sample.width or side) * (sample.height or side)
    # Guidance needs two forwards per denoising step.
    forwards = pictures * sample.steps * (1 if sample.guidance <= 1 else 2)
    work = speed.training_pixels(plan) + forwards * speed.FORWARD_SHARE * sample_area
    return work / (speed.recall(recipe.base) or DEFAULT_PIXELS_PER_S)


def sweep_seconds(trials_s: Sequence[float], launcher: LauncherOptions, *, trials: int) -> float:
    """Estimate the wall time of a sweep.

    Args:
        trials_s: seconds of the recipes that are known; the others are taken to be like them.
        launcher: says how many workers there are.
        trials: how many there will be in all.
    """
    workers = max(1, min(launcher.workers or os.cpu_count() or 1, trials))
    return fmean(trials_s) * trials / workers
