"""`lorasweep calibrate` on a tiny random base: real controls, a real file, found by the next recipe.

pytest -m slow tests/e2e/test_calibrate.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lorasweep import config, files
from lorasweep.bases import stable_diffusion
from lorasweep.cli import main
from lorasweep.metrics import calibration

TINY = [
    "base=stable_diffusion",
    "base.resolution=32",
    "base.bucket_step=8",
    "train.batch_size=2",
    "train.device=cpu",
    "dataset.dollhouse.images=8",
    "sample.steps=2",
    "sample.seeds=[0]",
    "tracking=none",
    "launcher.workers=2",
    "optimizer.lr=1e-2",
    "train.max_steps=8",
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "loha", "dora"])
def test_a_base_is_calibrated_once_and_recipes_find_it(
    home: Path, tiny_sd: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    words = [*TINY, f"base.path={tiny_sd}", f"adapter={kind}"]
    command = ["calibrate", *words, "--times", "24", "--rungs", "8", "--seeds", "1", "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    made = calibration.read(Path(told["file"]))
    assert made.limits and made.unplaced and not made.limits.keys() & made.unplaced.keys()
    for limit in made.limits.values():  # a definite one has no ruined end
        assert limit.null is not None
        assert limit.null < limit.limit < (limit.burned or math.inf)
    assert {run["healthy_step"] < run["burned_step"] for run in made.made["controls"].values()} == {True}

    (folder,) = (home / "outputs").glob("calibrate-*")
    (long,) = (run for run in made.made["controls"] if "long" in run)
    healthy_step = made.made["controls"][long]["healthy_step"]
    rungs = [row for row in files.read_jsonl(folder / long / "events.jsonl") if row["kind"] == "rung"]
    (healthy,) = (rung["metrics"]["norms/relative"] for rung in rungs if rung["step"] == healthy_step)
    random = [files.read_json(path)["metrics"] for path in folder.glob("nulls/random_*/judged.json")]
    assert [row["norms/relative"] for row in random] == [pytest.approx(healthy, rel=0.02)] * 2 and healthy > 0
    assert len(made.made["random_sizes"]) == 2 and min(made.made["random_sizes"]) > 0

    recipe = config.compose_recipe([*words, "adapter.dim=4", "optimizer=prodigy"])
    found = calibration.find(recipe, stable_diffusion.fingerprint(recipe.base))
    assert found.document() == {"name": "stable_diffusion", "digest": told["digest"], "fits": True}

    assert main(command) == 0, "nothing is left to cook"
    assert json.loads(capsys.readouterr().out)["digest"] == told["digest"], "and the same comes out"


def test_a_recipe_that_cannot_be_calibrated_for_is_refused_before_any_work(
    home: Path, tiny_sd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, f"base.path={tiny_sd}", "dataset.holdout=0", "~metrics.generalisation"]
    assert main(["calibrate", *words, "--rungs", "1", "--times", "1"]) == 2
    said = capsys.readouterr().err
    for wrong in ("dataset.holdout", "metrics", "--rungs", "--times"):
        assert wrong in said
    assert "Traceback" not in said
    assert not (home / "outputs").exists()
