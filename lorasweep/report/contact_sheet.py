"""The contact sheet of a sweep: arms x prompts at equal seeds, the base model as first row.

Reads run folders only; needs Pillow, not torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from lorasweep import files, sheet
from lorasweep.sweep.state import read_state

Key = tuple[str, str, int]  # tier, prompt, seed
_TIER_NAMES = {
    "in_distribution": "as trained",
    "recombined": "recombined",
    "class": "no trigger",
    "unrelated": "unrelated",
}


def write_contact_sheet(sweep_folder: Path) -> Path | None:
    """Draw `contact_sheet.png` from whatever trials have samples by now.

    Each arm is shown once, by its first finished seed, at the weight that counts; every image of a column has
    the same prompt and the same seed.

    Returns:
        The picture's path, or None when there is nothing to show yet.
    """
    base = _images(sweep_folder / "base_samples" / "index.json", weight=0.0)
    arms = _arms(sweep_folder)
    if not base or not arms:
        return None
    columns = [key for key in base if any(key in images for _, images in arms)]
    rows: list[sheet.Row] = [("base model\nno LoRA", [_open(base[key]) for key in columns])]
    rows += [(label, [_open(images.get(key)) for key in columns]) for label, images in arms]
    headers = [f"{_TIER_NAMES.get(tier, tier)}\n{prompt}" for tier, prompt, _ in columns]
    picture = sheet.contact_sheet(rows, headers, title=read_state(sweep_folder).question)
    path = sweep_folder / "contact_sheet.png"
    files.write_atomic(path, lambda temporary: picture.save(temporary, format="PNG"))
    return path


def _arms(sweep_folder: Path) -> list[tuple[str, dict[Key, Path]]]:
    """Label and images of the first finished trial of every arm, in the order of the sweep."""
    found: dict[str, tuple[str, dict[Key, Path]]] = {}
    for status_file in sorted(sweep_folder.glob("*/status.json")):
        folder, arm = status_file.parent, files.read_json(status_file)["arm"]
        if arm in found or not (folder / "metrics.json").exists():
            continue
        result = files.read_json(folder / "metrics.json")
        images = _images(folder / "samples" / "index.json", weight=result["weight"])
        if images:
            found[arm] = (_label(arm, result), images)
    return list(found.values())


def _label(arm: str, result: dict[str, Any]) -> str:
    metrics, lines = result["metrics"], [arm]
    for name, short in (("overcook/utility", "utility"), ("overcook/score", "overcook")):
        if name in metrics:
            lines.append(f"{short} {metrics[name]:.2f}")
    return "\n".join([*lines, result["verdict"]["state"]])


def _images(index: Path, *, weight: float) -> dict[Key, Path]:
    """One image per prompt, that of the first seed drawn, in the index's order."""
    if not index.exists():
        return {}
    rows = [row for row in files.read_json(index)["images"] if row["weight"] == weight]
    first = min((row["seed"] for row in rows), default=0)
    return {
        (row["tier"], row["prompt"], row["seed"]): index.parent / row["file"]
        for row in rows
        if row["seed"] == first
    }


def _open(path: Path | None) -> Image.Image | None:
    if path is None:
        return None
    with Image.open(path) as image:
        return image.convert("RGB")
