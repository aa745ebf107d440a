"""How fast this machine trains on a base: measured by real runs, read by `plan` for its estimate.

One small file, `cache/speed.json`: base -> training pixels per second of one worker. A training pixel is one
that goes forward and backward through the UNet once. Knows nothing of torch.
"""

from __future__ import annotations

import json
from pathlib import Path

from lorasweep import files, paths
from lorasweep.records import BaseOptions, Plan, PlannedImage, digest

FORWARD_SHARE = 1 / 3  # of a training pixel's time: backward costs about two forwards


def training_pixels(plan: Plan) -> float:
    """Training pixels of a whole training; an answer of the base as the target is one more forward."""
    images = plan.trained_on()
    once = sum(_work(image) * image.repeats for image in images)
    seen = sum(plan.exposures.values()) + sum(plan.reg_exposures.values())
    return seen * once / sum(image.repeats for image in images)


def remember(base: BaseOptions, pixels_per_s: float) -> None:
    """Keep a measurement; the last one wins, and losing one to another worker costs nothing."""
    files.write_json(_path(), _read() | {_key(base): round(pixels_per_s, 1)})


def recall(base: BaseOptions) -> float | None:
    """Training pixels per second of one worker on this base, or None when nothing was measured yet."""
    return _read().get(_key(base))


def _read() -> dict[str, float]:
    try:
        found = files.read_json(_path())
    except (OSError, json.JSONDecodeError):
        return {}
    numbers = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in numbers if isinstance(value, int | float) and value > 0}


def _work(image: PlannedImage) -> float:
    area_px = image.bucket.width_px * image.bucket.height_px
    return area_px * (1 + FORWARD_SHARE if image.target == "base" else 1)


def _key(base: BaseOptions) -> str:
    return digest([base.name, base.path])[:16]


def _path() -> Path:
    return paths.cache() / "speed.json"
