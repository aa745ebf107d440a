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
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from lorasweep.core import files, paths, registry
from lorasweep.core.records import BaseOptions, Plan, PlannedImage, Recipe, SampleOptions, digest
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
# Of a worker with one thread on the embedded base, until one ran here: a LoRA at batch 4, the default sampler and
# metrics, two quiet cores (docs/performance.md). Other bases and cards differ by factors of hundreds.
ASSUMED: dict[Work, float] = {"train": 24.0 * 64 * 64, "draw": 80.0 * 64 * 64, "judge": 9.0}
START_S = 12.0  # of workers before their first steps: imports, the base, latents, what the base itself draws


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


def trial_seconds(plan: Plan, recipe: Recipe) -> float | None:
    """Estimate one trial in one worker: training, drawing and judging; None while nothing tells.

    Speeds are what the last run with this base measured on this machine, else, of the embedded base, what is assumed;
    work scales with the area of the images.
    """
    count = pictures(plan, recipe)
    training, drawing, judging = (_speed(recipe.base, work) for work in ("train", "draw", "judge"))
    trains = not has_files(recipe)
    if drawing is None or (trains and training is None):
        return None
    seconds = denoised_pixels(count * math.prod(recipe.picture_px), recipe.sample) / drawing
    seconds += count / judging if judging else 0.0  # not measured: it takes too short to tell
    return seconds + (training_pixels(plan) / training if trains and training else 0.0)


def class_images_seconds(planned: Iterable[tuple[Plan, Recipe]]) -> float:
    """Estimate how long one worker draws the regularization images that are not there yet, each once; 0: not known."""
    missing: dict[str, tuple[PlannedImage, Recipe]] = {
        image.file: (image, recipe)
        for plan, recipe in planned
        for image in plan.reg_images
        if image.drawing is not None and not image.path.exists()
    }
    return sum(
        denoised_pixels(image.width_px * image.height_px, recipe.sample) / speed
        for image, recipe in missing.values()
        if (speed := _speed(recipe.base, "draw_one"))
    )


def sweep_seconds(trials_s: Sequence[float | None], *, workers: int, trials: int, once_s: float = 0.0) -> float | None:
    """Estimate the wall time of a sweep; None where one of its trials' is not known.

    Args:
        trials_s: seconds of the recipes that are known; the others are taken to be like them.
        workers: how many there are.
        trials: how many there will be in all.
        once_s: what is done once for all trials, by workers that share it between them.
    """
    known = [seconds for seconds in trials_s if seconds is not None]
    if len(known) < len(trials_s):
        return None
    return START_S + (fmean(known) * trials + once_s) / max(1, min(workers, trials))


def is_assumed(base: BaseOptions) -> bool:
    """Tell whether no recipe with this base has been timed here."""
    return recall(base) is None and recall(base, "draw") is None


def _speed(base: BaseOptions, work: Work) -> float | None:
    """Return what was measured here, of work as like it as there is; else what is assumed of the embedded base."""
    training = recall(base)
    measured = {"draw": training and training / FORWARD_SHARE, "draw_one": recall(base, "draw")}
    if (found := recall(base, work) or measured.get(work)) is not None:
        return found
    is_embedded = getattr(registry.load("base", base.name), "READABLE", False)
    return ASSUMED.get("draw" if work == "draw_one" else work) if is_embedded else None


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
        for image in (*plan.images, *plan.reg_images):
            latents.add((image.source or image.file, image.resize_px, image.crop_px, image.bucket))
            captions.add(image.caption)
        samples |= {(request.prompt, request.seed) for request in sample_requests.by_base(recipe, plan)}
    return {"latents": len(latents), "captions": len(captions), "base_samples": len(samples)}
