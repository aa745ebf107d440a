"""How fast this machine works with a base: measured by real runs, read by `plan` for its estimate.

One small file, `cache/speed.json`: base and kind of work -> how much of it one worker does in a second.

    train      training pixels: one goes forward and backward through the UNet once
    draw       denoised pixels: one goes forward once; pictures drawn in batches
    draw_one   the same, for pictures drawn one at a time
    judge      pictures, with all that is measured when they are judged

Knows nothing of torch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from lorasweep.core import files, paths
from lorasweep.core.records import BaseOptions, Plan, PlannedImage, SampleOptions, digest

Work = Literal["train", "draw", "draw_one", "judge"]
FORWARD_SHARE = 1 / 3  # of a training pixel's time: backward costs about two forwards
LONG_ENOUGH_S = 0.2  # of drawing or judging, before its speed is worth remembering


def training_pixels(plan: Plan) -> float:
    """Training pixels of a whole training; an answer of the base as the target is one more forward."""
    images = plan.trained_on()
    once = sum(_work(image) * image.repeats for image in images)
    seen = sum(plan.exposures.values()) + sum(plan.reg_exposures.values())
    return seen * once / sum(image.repeats for image in images)


def denoised_pixels(area_px: float, options: SampleOptions) -> float:
    """Denoised pixels of pictures with so much area in all; guidance takes two forwards per step."""
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
    return paths.cache() / "speed.json"
