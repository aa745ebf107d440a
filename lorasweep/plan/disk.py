"""How much disk a sweep takes, before anything runs, and what is encoded once for all its trials.

Takes plans and recipes, gives bytes and counts. Knows nothing about torch or about sweeps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lorasweep.core.records import Plan, Recipe
from lorasweep.plan import sample_requests
from lorasweep.plan.estimate import picture_px, pictures
from lorasweep.plan.trainable import trainable

FP32_BYTES = 4
# Of a checkpoint that can be continued, per trained number: itself, and what the optimizer notes beside it.
# Adam and most others note two numbers, Lion one, Prodigy three to four, Adafactor hardly any.
RESUMED = 1 + 2
PNG_BYTES_PER_PX = 1.8  # measured: pictures drawn by a model hardly compress
RECORDS_BYTES, RUNG_RECORDS_BYTES = 30_000, 40_000  # recipe, plan, log and metrics; more with every rung


@dataclass(frozen=True)
class Disk:
    """Bytes of one trial."""

    run_folder: int
    mirror: int  # what MLflow's store gets a copy of


def trial_disk(plan: Plan, recipe: Recipe) -> Disk | None:
    """Estimate one trial; None where the base's files do not tell how much will train.

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
