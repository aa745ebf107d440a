"""The contact sheet of a sweep: arms x prompts at equal seeds, the base model as first row.

Reads run folders only; needs Pillow, not torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from lorasweep import files, sheet


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
    columns = [key for key in base if all(key in images for _, images in arms)]
    rows = [("base model", [_open(base[key]) for key in columns])]
    rows += [(label, [_open(images[key]) for key in columns]) for label, images in arms]
    path = sweep_folder / "contact_sheet.png"
    picture = sheet.contact_sheet(rows, [prompt for prompt, _ in columns])
    files.write_atomic(path, lambda temporary: picture.save(temporary, format="PNG"))
    return path


def _arms(sweep_folder: Path) -> list[tuple[str, dict[tuple[str, int], Path]]]:
    """Label and images of the first finished trial of every arm, in the order of the sweep."""
    found: dict[str, tuple[str, dict[tuple[str, int], Path]]] = {}
    for status_file in sorted(sweep_folder.glob("*/status.json")):
        status, folder = files.read_json(status_file), status_file.parent
        index = folder / "samples" / "index.json"
        if status["arm"] in found or not index.exists() or not (folder / "metrics.json").exists():
            continue
        weight = files.read_json(folder / "metrics.json").get("weight", 0.7)
        images = _images(index, weight=weight)
        if images:
            found[status["arm"]] = (_label(status["arm"], folder), images)
    return list(found.values())


def _label(arm: str, folder: Path) -> str:
    result = files.read_json(folder / "metrics.json")
    metrics: dict[str, Any] = result["metrics"]
    lines = [arm]
    if "overcook/score" in metrics:
        lines.append(f"overcook {metrics['overcook/score']:.2f}")
    if "overcook/utility" in metrics:
        lines.append(f"utility {metrics['overcook/utility']:.2f}")
    if state := result["verdict"].get("state"):
        lines.append(state)
    return "\n".join(lines)


def _images(index: Path, *, weight: float) -> dict[tuple[str, int], Path]:
    """First-seed images by (prompt, seed), in the index's order."""
    if not index.exists():
        return {}
    rows = [row for row in files.read_json(index)["images"] if row["weight"] == weight]
    first = min((row["seed"] for row in rows), default=0)
    return {(row["prompt"], row["seed"]): index.parent / row["file"] for row in rows if row["seed"] == first}


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
