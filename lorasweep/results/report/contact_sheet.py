"""The contact sheet of a sweep: arms x prompts at equal seeds, the base model as first row.

Reads run folders only; needs Pillow, not torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from lorasweep.core import files
from lorasweep.results import sheet
from lorasweep.results.report.columns import Drawn, heading, shared, trigger_of
from lorasweep.results.report.pictures import TIER_NAMES, Key, Picture, first_seed, of_base, of_kept
from lorasweep.sweep.ranking.state import read_state


def write_contact_sheet(sweep_folder: Path) -> Path | None:
    """Draw `contact_sheet.png` from whatever trials have samples by now.

    Each arm is shown once, by its first finished seed, at the weight that counts; every image of a column is
    of the same place among the prompts and from the same seed.

    Returns:
        The picture's path, or None when there is nothing to show yet.
    """
    base = _at(of_base(sweep_folder), weight=0.0)
    labels, arms = _arms(sweep_folder)
    if not base or not arms:
        return None
    keys = shared(base, arms)
    rows: list[sheet.Row] = [("base model\nno LoRA", [_open(base[key]) for key in keys])]
    for label, arm in zip(labels, arms, strict=True):
        rows.append((label, [_open(arm.pictures.get(key)) for key in keys]))
    headers = [f"{TIER_NAMES.get(key[0], key[0])}\n{heading(key, arms)}" for key in keys]
    picture = sheet.contact_sheet(rows, headers, title=read_state(sweep_folder).question)
    path = sweep_folder / "contact_sheet.png"
    files.write_atomic(path, lambda temporary: picture.save(temporary, format="PNG"))
    return path


def _arms(sweep_folder: Path) -> tuple[list[str], list[Drawn]]:
    """Labels and pictures of the first finished trial of every arm, in the order of the sweep."""
    found: dict[str, tuple[str, Drawn]] = {}
    for status_file in sorted(sweep_folder.glob("*/status.json")):
        folder, arm = status_file.parent, files.read_json(status_file)["arm"]
        if arm in found or not (folder / "metrics.json").exists():
            continue
        result = files.read_json(folder / "metrics.json")
        pictures = _at(of_kept(folder), weight=result["weight"])
        if pictures:
            found[arm] = _label(arm, result), Drawn(pictures=pictures, trigger=trigger_of(folder))
    return [label for label, _ in found.values()], [drawn for _, drawn in found.values()]


def _label(arm: str, result: dict[str, Any]) -> str:
    metrics, lines = result["metrics"], [arm]
    for name, short in (("overcook/utility", "utility"), ("overcook/score", "overcook")):
        if name in metrics:
            lines.append(f"{short} {metrics[name]:.2f}")
    return "\n".join([*lines, result["verdict"]["state"]])


def _at(pictures: Iterable[Picture], *, weight: float) -> dict[Key, Picture]:
    """One picture per prompt, that of the first seed drawn, in the index's order."""
    return {picture.key: picture for picture in first_seed(p for p in pictures if p.weight == weight)}


def _open(picture: Picture | None) -> Image.Image | None:
    if picture is None:
        return None
    with Image.open(picture.file) as image:
        return image.convert("RGB")
