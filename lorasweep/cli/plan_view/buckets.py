"""Show what a bucket set does to a dataset: shapes bent, pixels cropped, images enlarged, batches left short.

Takes plans, gives back JSON-able data and tables. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from rich.table import Table

from lorasweep.core import registry
from lorasweep.core.console import text_table
from lorasweep.core.records import Plan, PlannedImage, Recipe
from lorasweep.data import order


def buckets_json(plan: Plan, recipe: Recipe) -> list[dict[str, Any]]:
    """List every bucket that training images fall into, and what becomes of them there."""
    train = plan.train_images()
    rows = []
    for bucket, members in order.buckets_of(train).items():
        images = [train[index] for index in members]
        rows.append(
            {
                "size": [bucket.width_px, bucket.height_px],
                "images": len(images),
                "batches_per_epoch": order.batches_per_epoch(images, recipe.train.batch_size),
                "aspect_error": round(fmean(image.aspect_error for image in images), 4),
                "cropped_share": round(fmean(image.cropped_share for image in images), 4),
                "largest_enlargement": round(max(image.enlargement for image in images), 3),
            }
        )
    return rows


def bucket_set_json(plan: Plan, recipe: Recipe) -> dict[str, Any]:
    """Return the whole set in a few numbers.

    Returns:
        `offered`: sizes to choose from, None where they are made on demand; `used`: sizes with images;
        `aspect_error`, `cropped_share`: mean and max over the training images; `enlargement`: least, mean and
        most, 1 being the file's own size; `enlarged`: images that are; `epoch`: batches, batches if images of
        all shapes could share one, images in a batch on average, steps, and steps if they could share.
    """
    train = plan.train_images()
    errors = [image.aspect_error for image in train]
    cropped = [image.cropped_share for image in train]
    factors = [image.enlargement for image in train]
    return {
        "offered": _offered(recipe),
        "used": len({image.bucket for image in train}),
        "aspect_error": {"mean": round(fmean(errors), 4), "max": round(max(errors), 4)},
        "cropped_share": {"mean": round(fmean(cropped), 4), "max": round(max(cropped), 4)},
        "enlargement": {
            "least": round(min(factors), 3),
            "mean": round(fmean(factors), 3),
            "most": round(max(factors), 3),
        },
        "enlarged": sum(factor > 1 for factor in factors),
        "epoch": _epoch_json(train, recipe),
    }


def bucket_table(arms: Sequence[dict[str, Any]]) -> Table:
    """Return the buckets of the arm whose set is richest; those of the others are in the JSON."""
    arm = max(arms, key=lambda candidate: len(candidate["buckets"]))
    columns = ("bucket", "images", "batches", "aspect error", "cropped", "enlarged at most")
    table = Table(*columns, title=f"buckets of {arm['name']}", caption="batches: of an epoch")
    for row in arm["buckets"]:
        table.add_row(
            "x".join(map(str, row["size"])),
            str(row["images"]),
            str(row["batches_per_epoch"]),
            f"{row['aspect_error']:.3f}",
            f"{row['cropped_share']:.0%}",
            f"{row['largest_enlargement']:.2f}",
        )
    return table


def bucket_set_table(arms: Sequence[dict[str, Any]]) -> Table:
    """Return one line per bucket set; arms with the same one share it."""
    owners: dict[tuple[str, ...], list[str]] = {}
    for arm in arms:
        owners.setdefault(_set_cells(arm["bucket_set"]), []).append(arm["name"])
    table = text_table(
        "bucket sets",
        texts=["arm"],
        numbers=["sizes", "aspect error", "cropped", "scaled", "steps"],
        rows=[(", ".join(names), *cells) for cells, names in owners.items()],
        caption="mean (worst) of the training images; steps of an epoch (if all shapes could share a batch)",
    )
    for column in table.columns[1:]:
        column.no_wrap = True  # 80 columns leave 13 for the arm
    return table


def _set_cells(found: dict[str, Any]) -> tuple[str, ...]:
    offered = "any" if found["offered"] is None else found["offered"]
    errors, cropped, factors, epoch = (found[key] for key in ("aspect_error", "cropped_share", "enlargement", "epoch"))
    return (
        f"{found['used']} of {offered}",
        f"{errors['mean']:.2f} ({errors['max']:.2f})",
        f"{cropped['mean']:.0%} ({cropped['max']:.0%})",
        f"{factors['mean']:.2f} ({factors['most']:.2f})",
        f"{epoch['steps']} ({epoch['steps_if_shared']})",
    )


def _epoch_json(train: Sequence[PlannedImage], recipe: Recipe) -> dict[str, Any]:
    """Batches never mix buckets, so each bucket may leave one batch short, and an epoch takes longer."""
    options = recipe.train
    seen = sum(image.repeats for image in train)
    batches = order.batches_per_epoch(train, options.batch_size)
    shared = math.ceil(seen / options.batch_size)
    return {
        "batches": batches,
        "batches_if_shared": shared,
        "images_per_batch": round(seen / batches, 3),
        "steps": math.ceil(batches / options.gradient_accumulation),
        "steps_if_shared": math.ceil(shared / options.gradient_accumulation),
    }


def _offered(recipe: Recipe) -> int | None:
    options = recipe.buckets.options
    if not options["upscale"]:
        return None
    built = registry.load("buckets", recipe.buckets.name).build(recipe.base, **options)
    return len(built)
