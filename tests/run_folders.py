"""What a finished trial leaves behind, made without training."""

from __future__ import annotations

from pathlib import Path

from tiny_training import make_plan

from lorasweep import config
from lorasweep.core import files
from lorasweep.core.protocols import Adapter
from lorasweep.core.records import Recipe, to_dict


def write_run(folder: Path, recipe: Recipe, images: Path, adapter: Adapter) -> None:
    """What a finished trial leaves, a rung at step 4 included."""
    images.mkdir(exist_ok=True)
    files.write_text(folder / "recipe.yaml", config.to_yaml(recipe))
    files.write_json(folder / "plan.json", to_dict(make_plan(recipe, images)))
    status = {
        "status": "COMPLETED",
        "number": 0,
        "fingerprint": "",
        "arm": "a",
        "seed": 0,
        "step": 8,
        "steps": 8,
        "started_at": 5.0,
        "ended_at": 9.5,
    }
    files.write_json(folder / "status.json", status)
    scores = {"overcook/score": 0.25, "overcook/utility": 0.5}
    rung = {"step": 4, "exposures_per_image": 2.0, "metrics": {"overcook/score": 0.125}}
    files.write_json(folder / "metrics.json", {"metrics": scores, "rungs": [rung]})
    for place in (folder, folder / "checkpoints" / "step_000004"):
        files.write_atomic(place / "adapter.safetensors", adapter.save)
