"""What cooking takes, before anything runs: time, by the speed of the last run, and disk.

Takes plans and recipes, gives seconds, bytes and counts. Knows nothing about torch or about sweeps.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from lorasweep.core.records import BaseOptions, LauncherOptions, Plan, PlannedImage, Recipe
from lorasweep.plan import sample_requests, throughput
from lorasweep.plan.judged_files import has_files
from lorasweep.plan.trainable import trainable

FP32_BYTES = 4
# Of a checkpoint that can be continued, per trained number: itself, and what the optimizer notes beside it.
# Adam and most others note two numbers, Lion one, Prodigy three to four, Adafactor hardly any.
RESUMED = 1 + 2
PNG_BYTES_PER_PX = 1.8  # measured: pictures drawn by a model hardly compress
RECORDS_BYTES, RUNG_RECORDS_BYTES = 30_000, 40_000  # recipe, plan, log and metrics; more with every rung
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
    training_s = 0.0 if has_files(recipe) else throughput.training_pixels(plan) / _training_speed(recipe.base)
    return training_s + drawing_s + judging_s


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
    machines = max(1, len(launcher.options.get("hosts", ())))
    workers = max(1, min((launcher.workers or os.cpu_count() or 1) * machines, trials))
    return (fmean(trials_s) * trials + once_s) / workers


def _training_speed(base: BaseOptions) -> float:
    return throughput.recall(base) or DEFAULT_PIXELS_PER_S


def _drawing_speed(base: BaseOptions, work: throughput.Work) -> float:
    return (
        throughput.recall(base, work)
        or throughput.recall(base, "draw")
        or _training_speed(base) / throughput.FORWARD_SHARE
    )


@dataclass(frozen=True)
class Disk:
    """Bytes of one trial."""

    run_folder: int
    mirror: int  # what MLflow's store gets a copy of


def trial_disk(plan: Plan, recipe: Recipe) -> Disk | None:
    """Estimate the disk of one trial; None where the base's files do not tell how much will train.

    A run folder keeps the adapter of every rung, that of the kept one once more, the newest checkpoint to
    continue from, and every picture.
    """
    found = trainable(recipe)
    if found is None:
        return None
    adapter = found.parameters * FP32_BYTES
    drawn = round(pictures(plan, recipe) * picture_px(recipe) * PNG_BYTES_PER_PX)
    rungs = len(plan.rungs)
    records = RECORDS_BYTES + RUNG_RECORDS_BYTES * rungs
    mirror = 0 if recipe.tracking.name == "none" else adapter + drawn
    return Disk(run_folder=(rungs + 1 + RESUMED) * adapter + drawn + records, mirror=mirror)


def caches(planned: Iterable[tuple[Plan, Recipe]]) -> dict[str, int]:
    """Count what is encoded or drawn once and shared by all trials."""
    latents, captions, samples = set(), set(), set()
    for plan, recipe in planned:
        for image in plan.images:
            latents.add((image.source, image.resize_px, image.crop_px, image.bucket))
            captions.add(image.caption)
        samples |= {(request.prompt, request.seed) for request in sample_requests.by_base(recipe, plan)}
    return {"latents": len(latents), "captions": len(captions), "base_samples": len(samples)}
