"""How long cooking takes on this machine, before anything runs: by the speed of the last run, else a default.

Takes plans and recipes, gives seconds. Knows nothing about torch or about sweeps.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from lorasweep.core.records import BaseOptions, LauncherOptions, Plan, PlannedImage, Recipe
from lorasweep.plan import sample_requests, throughput

# Of one CPU worker with one thread, a LoRA on the dollhouse at batch 4: forward, backward, AdamW.
DEFAULT_PIXELS_PER_S = 12.0 * 64 * 64


def pictures(plan: Plan, recipe: Recipe) -> int:
    """How many pictures a trial draws: every prompt at each rung, and at every weight in the end."""
    rung = sample_requests.at_rung(recipe, plan)
    return len(rung) * (len(plan.rungs) - 1) + len({*rung, *sample_requests.in_full(recipe, plan)})


def picture_px(recipe: Recipe) -> int:
    """Area of one of them, px."""
    side = recipe.base.resolution
    return (recipe.sample.width or side) * (recipe.sample.height or side)


def trial_seconds(plan: Plan, recipe: Recipe) -> float:
    """Estimate one trial in one worker: training, drawing and, once a run has measured it, judging.

    Speeds are what the last run with this base measured on this machine, else a default; work scales with
    the area of the images.
    """
    count = pictures(plan, recipe)
    denoised = throughput.denoised_pixels(count * picture_px(recipe), recipe.sample)
    judged_per_s = throughput.recall(recipe.base, "judge")
    judging_s = count / judged_per_s if judged_per_s else 0.0
    drawing_s = denoised / _drawing_speed(recipe.base, "draw")
    return throughput.training_pixels(plan) / _training_speed(recipe.base) + drawing_s + judging_s


def class_images_seconds(planned: Iterable[tuple[Plan, Recipe]]) -> float:
    """Estimate how long one worker draws the regularization images that are not there yet, each once."""
    missing: dict[str, tuple[PlannedImage, Recipe]] = {
        image.file: (image, recipe)
        for plan, recipe in planned
        for image in plan.reg_images
        if image.drawing is not None and not Path(image.file).exists()
    }
    return sum(
        throughput.denoised_pixels(image.width_px * image.height_px, recipe.sample)
        / _drawing_speed(recipe.base, "draw_one")
        for image, recipe in missing.values()
    )


def sweep_seconds(trials_s: Sequence[float], launcher: LauncherOptions, *, trials: int, once_s: float = 0.0) -> float:
    """Estimate the wall time of a sweep.

    Args:
        trials_s: seconds of the recipes that are known; the others are taken to be like them.
        launcher: says how many workers there are.
        trials: how many there will be in all.
        once_s: what is done once for all trials, by workers that share it between them.
    """
    workers = max(1, min(launcher.workers or os.cpu_count() or 1, trials))
    return (fmean(trials_s) * trials + once_s) / workers


def _training_speed(base: BaseOptions) -> float:
    return throughput.recall(base) or DEFAULT_PIXELS_PER_S


def _drawing_speed(base: BaseOptions, work: throughput.Work) -> float:
    return (
        throughput.recall(base, work)
        or throughput.recall(base, "draw")
        or _training_speed(base) / throughput.FORWARD_SHARE
    )
