"""`lorasweep calibrate` on a tiny random base: real controls, a real file, found by the next recipe.

pytest -m slow tests/e2e/test_calibrate.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lorasweep import config
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
def test_a_base_is_calibrated_once_and_recipes_find_it(
    home: Path, tiny_sd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, f"base.path={tiny_sd}"]
    command = ["calibrate", *words, "--times", "24", "--rungs", "8", "--seeds", "1", "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    made = calibration.read(Path(told["file"]))
    assert made.limits and made.unplaced and not made.limits.keys() & made.unplaced.keys()
    for limit in made.limits.values():  # a definite one has no ruined end
        assert limit.null is not None
        assert limit.null < limit.limit < (limit.burned or math.inf)
    assert {run["healthy_step"] < run["burned_step"] for run in made.made["controls"].values()} == {True}

    recipe = config.compose_recipe([*words, "adapter.dim=4", "optimizer=prodigy"])
    found = calibration.find(recipe, stable_diffusion.fingerprint(recipe.base))
    assert found.document() == {"name": "stable_diffusion", "digest": told["digest"], "fits": True}

    assert main(command) == 0, "nothing is left to cook"
    assert json.loads(capsys.readouterr().out)["digest"] == told["digest"], "and the same comes out"


def test_a_recipe_that_cannot_be_calibrated_for_is_refused_before_any_work(
    home: Path, tiny_sd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, f"base.path={tiny_sd}", "dataset.holdout=0", "adapter=dora"]
    assert main(["calibrate", *words]) == 2
    said = capsys.readouterr().err
    assert "dataset.holdout" in said and "adapter" in said and "Traceback" not in said
    assert not (home / "outputs").exists()
