"""Show what a caption policy does before anything trains: captions before and after, and how often tags come.

Takes what `api.plan` gives, and returns JSON or prints tables. Caption files are only read. No torch.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lorasweep.core.console import text_console, text_table
from lorasweep.core.records import CaptionOptions, Plan, Recipe
from lorasweep.core.seeds import derive
from lorasweep.data import captions
from lorasweep.plan.dataset import written_captions
from lorasweep.results.handles import Planned

_SHOWN_IMAGES = 8
_SHOWN_TAGS = 30


def captions_json(planned: Planned) -> dict[str, Any]:
    """Describe what every arm's captions become, as JSON-able data.

    Returns:
        `policies`, one per different outcome, with the `arms` that share it, the `trigger`, `images` (`file`,
        `split`, `before`, `after` and, where captions vary, `exposure`: one example of what a step sees) and
        `tags` (`tag`, the training images that have it `before` and `after`, how often training sees it).
    """
    policies: list[dict[str, Any]] = []
    for arm, plan in planned.arms:
        found = _policy(arm.recipe, plan)
        same = next((p for p in policies if all(p[key] == value for key, value in found.items())), None)
        if same is None:
            policies.append({"arms": [arm.name], **found})
        else:
            same["arms"].append(arm.name)
    return {"policies": policies}


def print_captions(planned: Planned, console: Console | None = None) -> None:
    """Print what every arm's captions become, as tables."""
    console = console or text_console()
    for policy in captions_json(planned)["policies"]:
        console.print(_image_table(policy))
        console.print(_tag_table(policy))


def _policy(recipe: Recipe, plan: Plan) -> dict[str, Any]:
    options = recipe.captions
    before = written_captions(recipe)
    images = []
    for number, image in enumerate(plan.images):
        row = {"file": image.file, "split": image.split, "before": before[image.file], "after": image.caption}
        if captions.rearranges(options) or options.dropout > 0:
            rng = random.Random(derive(recipe.seed, "caption preview", number))
            row["exposure"] = captions.vary(image.caption, options, rng)
        images.append(row)
    return {"trigger": plan.trigger, "images": images, "tags": _tags(images, plan, options)}


def _tags(images: list[dict[str, Any]], plan: Plan, options: CaptionOptions) -> list[dict[str, Any]]:
    train = [image for image in images if image["split"] == "train"]
    before, after = (
        Counter(tag for image in train for tag in set(captions.tags(image[when] or "", options)))
        for when in ("before", "after")
    )
    rows = [
        {"tag": tag, "before": before[tag], "after": after[tag], "seen": plan.tag_exposures.get(tag, 0)}
        for tag in sorted({*before, *after})
    ]
    return sorted(rows, key=lambda row: -max(row["before"], row["after"]))


def _image_table(policy: dict[str, Any]) -> Table:
    """Captions that are not as written come first."""
    rows = sorted(policy["images"], key=lambda row: row["before"] == row["after"])
    changed = sum(row["before"] != row["after"] for row in rows)
    shown = min(len(rows), _SHOWN_IMAGES)
    varies = "exposure" in rows[0]
    table = text_table(
        f"captions of {', '.join(policy['arms'])}",
        texts=["image", "before", "after", *(["one exposure"] if varies else [])],
        caption=f"{changed} of {len(rows)} are not as written; {shown} shown, all with --json",
    )
    table.show_lines = True
    for row in rows[:_SHOWN_IMAGES]:
        before = "(no caption file)" if row["before"] is None else row["before"]
        exposure = [row["exposure"] or "(empty)"] if varies else []
        table.add_row(Path(row["file"]).name, before, row["after"], *exposure)
    return table


def _tag_table(policy: dict[str, Any]) -> Table:
    total = sum(image["split"] == "train" for image in policy["images"])
    return text_table(
        f"tags of {total} training images",
        texts=["tag"],
        numbers=["images before", "after", "seen in training"],
        rows=[[row[name] for name in ("tag", "before", "after", "seen")] for row in policy["tags"][:_SHOWN_TAGS]],
        caption="what is in nearly every image is what a trigger can absorb: captions.prune=[...]",
    )
