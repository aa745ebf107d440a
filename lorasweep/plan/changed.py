"""Which images a plan that was recorded had, and which there are now, as a person would look them up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lorasweep.core import paths
from lorasweep.core.printable import some
from lorasweep.core.records import Plan


def images_since(recorded: Mapping[str, Any], planned: Plan) -> str:
    """Name the images and captions that are others than in a plan's data; empty where it is damaged, or none are."""
    try:
        had = {paths.short(Path(each["file"])): each for key in ("images", "reg_images") for each in recorded[key]}
        return some(list(_changes(had, planned)))
    except (KeyError, TypeError):
        return ""


def _changes(had: Mapping[str, Mapping[str, Any]], planned: Plan) -> Iterator[str]:
    now = {image.short: image for image in (*planned.images, *planned.reg_images)}
    for name in sorted(had.keys() | now.keys()):
        if name not in now:
            yield f"{name} is gone"
        elif name not in had:
            yield f"{name} is new"
        elif had[name]["sha256"] != now[name].sha256:
            yield f"{name} is another picture"
        elif had[name]["caption"] != now[name].caption:
            yield f"{name} has another caption"
