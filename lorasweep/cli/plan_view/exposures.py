"""Show the budget as exposures: per image, concept and tag, and what regularization images take of it.

Takes plans and recipes, gives back JSON-able data and tables. No torch.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from lorasweep.core.console import text_table
from lorasweep.core.records import Plan, PlannedImage, Recipe
from lorasweep.plan import budget
from lorasweep.plan.reach import shared_tags

_SHOWN_TAGS, _SHOWN_CAPTIONS = 8, 4
SHARES = (0.25, 0.5)  # of captions.decouple, to show what it would change


def exposures_json(plan: Plan, recipe: Recipe) -> dict[str, Any]:
    """Tell what is seen how often, in the whole training and in an epoch.

    Returns:
        `concepts`: name -> its images, exposures, exposures per image and steps of an epoch that are its own;
        `shared_tags`: tags of several concepts that are trained more than any of them, with how many times as
        much, and about how often by share of captions.decouple, unless that is in force already.
    """
    train = plan.train_images()
    counted = budget.count(train, recipe.train, seed=recipe.seed, regularization=plan.reg_images).by_image
    concepts: dict[str, dict[str, Any]] = {}
    for image, times in zip(train, counted, strict=True):
        row = concepts.setdefault(image.concept, {"images": 0, "exposures": 0, "per_epoch": 0})
        row["images"] += 1
        row["exposures"] += times
        row["per_epoch"] += image.repeats
    batch = recipe.train.batch_size * recipe.train.gradient_accumulation
    for row in concepts.values():
        row["per_image"] = round(row["exposures"] / row["images"], 2)
        row["steps_per_epoch"] = round(row["per_epoch"] / batch, 2)
    shares = SHARES if recipe.captions.decouple == 0 else ()
    shared = [
        {
            **dataclasses.asdict(tag),
            "ratio": round(tag.ratio, 3),
            "decoupled": {str(share): tag.decoupled(share) for share in shares},
        }
        for tag in shared_tags(plan, recipe.captions)
    ]
    return {"concepts": concepts, "shared_tags": shared}


def exposure_table(data: dict[str, Any]) -> Table:
    """Return the exposures of the first arm, from `tables.plan_json`."""
    held_out = sum(image["split"] == "held_out" for image in data["images"])
    table = text_table(
        f"exposures of {data['arms'][0]['name']}",
        texts=["seen in training"],
        numbers=["images", "each", "in all", "x concept"],
        caption=f"{len(data['images'])} images, {held_out} of them held out for judging",
    )
    for concept, row in data["budget"]["concepts"].items():
        name = f"concept {concept}" if concept else "all images"
        table.add_row(name, str(row["images"]), f"{row['per_image']:.0f}", str(row["exposures"]), "")
    largest = max(data["exposures"].values(), default=0)
    several = len(data["exposures"]) > 1
    for tag, times in list(data["tag_exposures"].items())[:_SHOWN_TAGS]:
        table.add_row(f"tag {tag}", "", "", str(times), f"x {times / largest:.1f}" if several else "")
    return table


def regularization_json(recipe: Recipe, plan: Plan) -> dict[str, Any]:
    """Describe the regularization of one recipe.

    Returns:
        `regularizers`: one entry per name, with its `knobs` and, of a source of images, what `_source_json`
        says. `without`: steps, steps per epoch and exposures per image if there were no such images.
    """
    alone = budget.count(plan.train_images(), recipe.train, seed=recipe.seed)
    regularizers = []
    for name, knobs in recipe.regularization.items():
        images = [image for image in plan.reg_images if image.concept == name]
        source = _source_json(images, plan.reg_exposures.get(name, 0)) if images else {}
        regularizers.append({"name": name, "knobs": knobs, **source})
    return {
        "regularizers": regularizers,
        "without": {
            "steps": alone.steps,
            "steps_per_epoch": alone.steps_per_epoch,
            "exposures_per_image": sum(alone.by_image) / len(alone.by_image),
        },
    }


def _source_json(images: Sequence[PlannedImage], exposures: int) -> dict[str, Any]:
    drawn = [image for image in images if image.drawing is not None]
    return {
        "images": len(images),
        "drawn_by_base": len(drawn),
        "to_draw": sum(not Path(image.file).exists() for image in drawn),
        "captions": dict(Counter(image.caption for image in images).most_common()),
        "repeats": [min(i.repeats for i in images), max(i.repeats for i in images)],
        "exposures": exposures,
        "loss_weight": images[0].loss_weight,
        "target": images[0].target,
    }


def regularization_table(arms: Sequence[dict[str, Any]]) -> Table | None:
    """Return the regularizers of every arm that has any, from `regularization_json`; None when no arm has."""
    table = Table(title="regularization", caption=_caption(arms))
    for name in ("arm", "regularizer"):
        table.add_column(name, no_wrap=True)
    for name in ("images", "seen", "loss x", "target", "captions, knobs"):
        table.add_column(name, justify="right" if name in ("seen", "loss x") else "left", overflow="fold")
    for arm in arms:
        for entry in arm["regularization"]["regularizers"]:
            table.add_row(arm["name"], entry["name"], *_cells(entry))
    return table if table.row_count else None


def _cells(entry: dict[str, Any]) -> list[str]:
    if "images" not in entry:
        knobs = ", ".join(f"{key}={value}" for key, value in entry["knobs"].items())
        return ["-", "", "", "", knobs]
    images = str(entry["images"])
    if entry["to_draw"]:
        images += f", {entry['to_draw']} to draw"
    captions = list(entry["captions"])
    shown = " | ".join(captions) if len(captions) <= _SHOWN_CAPTIONS else f"{len(captions)} captions"
    return [images, str(entry["exposures"]), f"{entry['loss_weight']:g}", entry["target"], shown]


def _caption(arms: Sequence[dict[str, Any]]) -> str:
    """What the images of the first arm that has any do to its training."""
    for arm in arms:
        without = arm["regularization"]["without"]
        if any("images" in entry for entry in arm["regularization"]["regularizers"]):
            steps, per_epoch, seen = (
                f"{arm[key]:.0f} {words} instead of {without[other]:.0f}"
                for key, other, words in (
                    ("steps_per_trial", "steps", "steps"),
                    ("steps_per_epoch", "steps_per_epoch", "steps an epoch"),
                    ("exposures_per_image", "exposures_per_image", "exposures per image"),
                )
            )
            return f"{arm['name']}: {steps}, {per_epoch}, {seen}"
    return ""
