"""Show what regularization adds to a training: its images, and what they do to steps and exposures. No torch.

Takes recipes and plans, gives back JSON-able data and a table. Knows nothing about the rest of a plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from lorasweep.core.records import Plan, PlannedImage, Recipe
from lorasweep.plan import budget

_SHOWN_CAPTIONS = 4


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
    """The regularizers of every arm that has any, from `regularization_json`; None when no arm has."""
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
