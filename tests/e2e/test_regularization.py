"""All regularizers at once on a tiny random base: drawn, trained on, stopped, continued, never judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorasweep import config, plan
from lorasweep.core import files, paths
from lorasweep.core.records import Recipe, Status
from lorasweep.trial import class_images
from lorasweep.trial.resources import TrialResources
from lorasweep.trial.run import cook

pytestmark = pytest.mark.usefixtures("quick_trials")
WORDS = [
    "train.max_steps=4",
    "train.rungs=1",
    "train.batch_size=2",
    "train.log_every=1",
    "adapter.dim=4",
    "captions.trigger=green beach",
    "regularization=[scale_norm,reg_images,anti_bleed,neutralize,prior_prediction]",
    "regularization.scale_norm.max_norm=0.01",
    "regularization.anti_bleed.images=1",
    "regularization.neutralize.images=1",
    "optimizer.lr=1e-2",
    "sample.steps=2",
    "sample.seeds=[0]",
    "sample.weights=[0.7]",
    "metrics=[]",
]


def run(folder: Path, recipe: Recipe, *, stop_after: int | None = None) -> Any:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == stop_after

    return cook(
        recipe,
        plan.make_plan(recipe),
        folder,
        TrialResources(),
        report=lambda event: True,
        should_stop=should_stop,
    )


def test_drawn_trained_stopped_and_continued(
    home: Path, on_tiny_sd: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*WORDS, *on_tiny_sd]
    recipe = config.compose_recipe(words)
    assert run(home / "straight", recipe).status == Status.COMPLETED
    pictures = sorted((paths.cache() / "class_images").glob("??/*.png"))
    assert len(pictures) == 3  # green, beach, 1girl
    rows = [row for row in files.read_jsonl(home / "straight" / "events.jsonl") if row["kind"] == "step"]
    assert all("train/norm/max" in row["metrics"] for row in rows)

    monkeypatch.setattr(class_images, "_draw_one", lambda *arguments: pytest.fail("drawn twice"))
    folder = home / "stopped"
    assert run(folder, recipe, stop_after=2).status == Status.CANCELLED
    assert run(folder, recipe).status == Status.COMPLETED
    straight = (home / "straight" / "adapter.safetensors").read_bytes()
    assert (folder / "adapter.safetensors").read_bytes() == straight

    plain = config.compose_recipe([word for word in words if not word.startswith("regularization")])
    run(home / "plain", plain)
    assert (home / "plain" / "adapter.safetensors").read_bytes() != straight
