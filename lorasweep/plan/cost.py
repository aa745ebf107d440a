"""What a recipe takes before anything runs: time, by the speeds that real runs measured on this machine, and disk.

Speeds are in one small file, `cache/speed.json`: base and kind of work -> how much of it one worker does in a second.

    train      training pixels: one goes forward and backward through the UNet once
    draw       denoised pixels: one goes forward once; pictures drawn in batches
    draw_one   the same, for pictures drawn one at a time
    judge      pictures, with all that is measured when they are judged

Knows nothing about torch or about sweeps.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from lorasweep.core import files, paths
from lorasweep.core.records import BaseOptions, LauncherOptions, Plan, PlannedImage, Recipe, SampleOptions, digest
from lorasweep.plan import sample_requests
from lorasweep.plan.lora_files import has_files
from lorasweep.plan.trainable import trainable

Work = Literal["train", "draw", "draw_one", "judge"]
FORWARD_SHARE = 1 / 3  # of a training pixel's time: backward costs about two forwards
LONG_ENOUGH_S = 0.2  # of drawing or judging, before its speed is worth remembering
FP32_BYTES = 4
# Of a checkpoint that can be continued, per trained number: itself, and what the optimizer notes beside it.
# Adam and most others note two numbers, Lion one, Prodigy three to four, Adafactor hardly any.
RESUMED = 1 + 2
PNG_BYTES_PER_PX = 1.8  # measured: pictures drawn by a model hardly compress
RECORDS_BYTES, RUNG_RECORDS_BYTES = 30_000, 40_000  # recipe, plan, log and metrics; more with every rung
# Of one CPU worker with one thread, a LoRA on the dollhouse at batch 4: forward, backward, AdamW.
DEFAULT_PIXELS_PER_S = 12.0 * 64 * 64


def training_pixels(plan: Plan) -> float:
    """Count the pixels of a whole training; an answer of the base as the target is one more forward."""
    images = plan.trained_on()
    once = sum(_work(image) * image.repeats for image in images)
    seen = sum(plan.exposures.values()) + sum(plan.reg_exposures.values())
    return seen * once / sum(image.repeats for image in images)


def denoised_pixels(area_px: float, options: SampleOptions) -> float:
    """Count the denoised pixels of pictures with so much area in all; guidance takes two forwards per step."""
    return area_px * options.steps * (1 if options.guidance <= 1 else 2)


@contextmanager
def measured(base: BaseOptions, work: Work, amount: float) -> Iterator[None]:
    """Remember how fast the block does so much work, unless it takes too short to tell."""
    began = time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    if seconds >= LONG_ENOUGH_S:
        remember(base, amount / seconds, work=work)


def remember(base: BaseOptions, per_second: float, *, work: Work = "train") -> None:
    """Keep a measurement; the last one wins, and losing one to another worker costs nothing."""
    files.write_cache(_path(), _read() | {_key(base, work): round(per_second, 4)})


def recall(base: BaseOptions, work: Work = "train") -> float | None:
    """Work per second of one worker with this base, or None when nothing was measured yet."""
    return _read().get(_key(base, work))


def _read() -> dict[str, float]:
    return {
        key: value for key, value in files.read_object(_path()).items() if isinstance(value, int | float) and value > 0
    }


def _work(image: PlannedImage) -> float:
    area_px = image.bucket.width_px * image.bucket.height_px
    return area_px * (1 + FORWARD_SHARE if image.target == "base" else 1)


def _key(base: BaseOptions, work: Work) -> str:
    key = digest([base.name, base.path])[:16]
    return key if work == "train" else f"{key}-{work}"


def _path() -> Path:
    return paths.facts("speed")


def pictures(plan: Plan, recipe: Recipe) -> int:
    """Tell how many pictures a trial draws: every prompt at each rung, and at every weight in the end."""
    rung = sample_requests.at_rung(recipe, plan)
    return len(rung) * (len(plan.rungs) - 1) + len({*rung, *sample_requests.in_full(recipe, plan)})


def trial_seconds(plan: Plan, recipe: Recipe) -> float:
    """Estimate one trial in one worker: training, drawing and, once a run has measured it, judging.

    Speeds are what the last run with this base measured on this machine, else a default; work scales with
    the area of the images.
    """
    count = pictures(plan, recipe)
    denoised = denoised_pixels(count * math.prod(recipe.picture_px), recipe.sample)
    judged_per_s = recall(recipe.base, "judge")
    judging_s = count / judged_per_s if judged_per_s else 0.0
    drawing_s = denoised / _drawing_speed(recipe.base, "draw")
    training_s = 0.0 if has_files(recipe) else training_pixels(plan) / _training_speed(recipe.base)
    return training_s + drawing_s + judging_s


def class_images_seconds(planned: Iterable[tuple[Plan, Recipe]]) -> float:
    """Estimate how long one worker draws the regularization images that are not there yet, each once."""
    missing: dict[str, tuple[PlannedImage, Recipe]] = {
        image.file: (image, recipe)
        for plan, recipe in planned
        for image in plan.reg_images
        if image.drawing is not None and not image.path.exists()
    }
    return sum(
        denoised_pixels(image.width_px * image.height_px, recipe.sample) / _drawing_speed(recipe.base, "draw_one")
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
    return recall(base) or DEFAULT_PIXELS_PER_S


def _drawing_speed(base: BaseOptions, work: Work) -> float:
    return recall(base, work) or recall(base, "draw") or _training_speed(base) / FORWARD_SHARE


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
    drawn = round(pictures(plan, recipe) * math.prod(recipe.picture_px) * PNG_BYTES_PER_PX)
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
