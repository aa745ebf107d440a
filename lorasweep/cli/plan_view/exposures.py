"""Show the budget as exposures: per image, per concept, per tag, and what concepts that share a tag do to it.

Takes plans, gives back JSON-able data and a table. No torch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from rich.table import Table

from lorasweep.core.records import Plan, Recipe
from lorasweep.plan.budget import count
from lorasweep.plan.reach import shared_tags

_SHOWN_TAGS = 8
SHARES = (0.25, 0.5)  # of captions.decouple, to show what it would change


def exposures_json(plan: Plan, recipe: Recipe) -> dict[str, Any]:
    """What is seen how often, in the whole training and in an epoch.

    Returns:
        `concepts`: name -> its images, exposures, exposures per image and steps of an epoch that are its own;
        `shared_tags`: tags of several concepts that are trained more than any of them, with how many times as
        much, and about how often by share of captions.decouple, unless that is in force already.
    """
    train = plan.train_images()
    counted = count(train, recipe.train, seed=recipe.seed, regularization=plan.reg_images).by_image
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
    """The exposures of the first arm, from `tables.plan_json`."""
    table = Table(title=f"exposures of {data['arms'][0]['name']}")
    table.add_column("seen in training", overflow="fold")
    for name in ("images", "each", "in all", "x concept"):
        table.add_column(name, justify="right")
    for concept, row in data["budget"]["concepts"].items():
        name = f"concept {concept}" if concept else "all images"
        table.add_row(name, str(row["images"]), f"{row['per_image']:.0f}", str(row["exposures"]), "")
    largest = max(data["exposures"].values(), default=0)
    several = len(data["exposures"]) > 1
    for tag, times in list(data["tag_exposures"].items())[:_SHOWN_TAGS]:
        table.add_row(f"tag {tag}", "", "", str(times), f"x {times / largest:.1f}" if several else "")
    held_out = sum(image["split"] == "held_out" for image in data["images"])
    table.caption = f"{len(data['images'])} images, {held_out} of them held out for judging"
    return table
