"""An audited dataset as one page: thumbnails with their crops, captions with marked tags, findings beside them.

    Audit  ->  HTML

One self-contained file by the templates of the report, which escape whatever they put in.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from lorasweep.core.errors import DatasetError
from lorasweep.core.findings import Finding
from lorasweep.core.records import PlannedImage, Recipe
from lorasweep.data import captions
from lorasweep.data.images import open_rgb
from lorasweep.plan.audit import Audit
from lorasweep.plan.caption_findings import short
from lorasweep.results.report.page import assets, templates

_SIDE_PX = 200
_MARK = "· lorasweep audit</title>"


def is_ours(file: Path) -> bool:
    """Whether a file is a page of an audit, and not somebody's own."""
    return _MARK in file.read_text(encoding="utf-8")


def render(recipe: Recipe, found: Audit) -> str:
    """Write the page."""
    images = found.plan.images if found.plan else ()
    concepts = dict.fromkeys(image.concept for image in images)
    return (
        templates()
        .get_template("audit.html.j2")
        .render(
            name=Path(recipe.dataset.path or "").name,
            findings=found.findings,
            concepts={name: [_card(i, recipe, found) for i in images if i.concept == name] for name in concepts},
            **assets("page.css", "audit.css", script="audit.js"),
        )
    )


def _card(image: PlannedImage, recipe: Recipe, found: Audit) -> dict[str, object]:
    """What the page shows of one image; the crop in percent of the thumbnail."""
    (width, height), (left, top) = image.resize_px, image.crop_px
    crop = (left / width, top / height, image.bucket.width_px / width, image.bucket.height_px / height)
    about = [each for each in found.findings if {short(image), Path(image.file).name} & set(each.places)]
    trigger = found.plan.trigger if found.plan else None
    return {
        "name": Path(image.file).name,
        "picture": _thumbnail(Path(image.file)),
        "crop": "left:{:.1%};top:{:.1%};width:{:.1%};height:{:.1%}".format(*crop),
        "bucket": f"{image.bucket.width_px} x {image.bucket.height_px}",
        "size": f"{image.width_px} x {image.height_px}",
        "held_out": image.split == "held_out",
        "tags": [(tag, _kind(tag, trigger, found.findings)) for tag in captions.tags(image.caption, recipe.captions)],
        "findings": about,
    }


def _kind(tag: str, trigger: str | None, findings: tuple[Finding, ...]) -> str:
    """What a tag is to the LoRA: its trigger, fused with it, absorbed by it, or a tag."""
    if trigger and captions.has_trigger(tag, trigger):
        return "trigger"
    plain = captions.plain(tag)
    return next((each.tags[plain] for each in findings if plain in each.tags), "tag")


def _thumbnail(file: Path) -> str:
    """A small JPEG as a data URI; empty when the file cannot be read any more."""
    try:
        picture = open_rgb(file)
    except DatasetError:
        return ""
    picture.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    kept = io.BytesIO()
    picture.save(kept, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(kept.getvalue()).decode()}"
