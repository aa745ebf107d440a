"""`lorasweep calibrate` on a tiny random base: real controls, a real file, found by the next recipe.

pytest -m slow tests/e2e/test_calibrate.py
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_training import FEW_PICTURES

from lorasweep import config
from lorasweep.cli import main
from lorasweep.core import files, registry
from lorasweep.plan import calibration
from lorasweep.sweep.calibrate.fit_limits import Control

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
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fixture"), [("stable_diffusion", "tiny_sd"), ("sdxl", "tiny_sdxl")])
def test_a_base_is_calibrated_once_and_recipes_find_it(
    name: str,
    fixture: str,
    request: pytest.FixtureRequest,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A tiny random base is not ruined reliably; how ruin is found is tested with `read_control`.
    monkeypatch.setattr("lorasweep.api.calibration.read_control", _first_and_last)
    base = [f"base={name}", f"base.path={request.getfixturevalue(fixture)}"]
    words = [*TINY[1:], *base, "launcher.workers=2", "optimizer.lr=1e-2", "train.max_steps=4"]
    command = ["calibrate", *words, "--times", "4", "--rungs", "3", "--seeds", "1", "--json"]
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)
    made = calibration.read(Path(told["file"]))
    assert made.limits and made.unplaced and not made.limits.keys() & made.unplaced.keys()
    for limit in made.limits.values():  # a definite one has no ruined end
        assert limit.null is not None
        assert limit.null < limit.limit < (limit.burned or math.inf)
    assert {run["healthy_step"] < run["burned_step"] for run in made.made["controls"].values()} == {True}

    recipe = config.compose_recipe([*TINY[1:], *base, "adapter.dim=4", "optimizer=prodigy"])
    found = calibration.find(recipe, registry.load("base", name).fingerprint(recipe.base))
    assert found.document() == {"name": name, "digest": told["digest"], "fits": True}

    assert main(command) == 0, "nothing is left to cook"
    assert json.loads(capsys.readouterr().out)["digest"] == told["digest"], "and the same comes out"


def _first_and_last(arm: str, rungs: Sequence[Any]) -> Control:
    """A control read as if it had been cooked long enough to be ruined."""
    return Control(arm=arm, healthy=rungs[0], burned=rungs[-1], gain=0.3, identity=None)


@pytest.mark.usefixtures("training_workers")
def test_random_controls_are_as_large_as_the_healthy_checkpoint(
    home: Path, tiny_sd: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one kind; `tests/unit/sweep/calibrate/test_controls.py` has them all."""
    monkeypatch.setattr("lorasweep.api.calibration.read_control", _first_and_last)
    words = [*TINY, f"base.path={tiny_sd}", "adapter=loha", "train.max_steps=2", "optimizer.lr=1e-2"]
    words += ["metrics=[generalisation,norms]", "launcher.workers=1", *FEW_PICTURES]
    assert main(["calibrate", *words, "--times", "3", "--rungs", "3", "--seeds", "1", "--json"]) == 0
    sizes = json.loads(capsys.readouterr().out)["made"]["random_sizes"]
    (folder,) = (home / "outputs").glob("calibrate-*")
    (log,) = folder.glob("*-long-s0/events.jsonl")
    healthy = next(row["metrics"] for row in files.read_jsonl(log) if row["kind"] == "rung")
    random = [files.read_json(path)["metrics"] for path in folder.glob("nulls/random_*/judged.json")]
    relative = [metrics["norms/relative"] for metrics in random]
    assert relative == [pytest.approx(healthy["norms/relative"], rel=0.02)] * 2
    assert min(*relative, *sizes) > 0


def test_a_recipe_that_cannot_be_calibrated_for_is_refused_before_any_work(
    home: Path, tiny_sd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, f"base.path={tiny_sd}", "dataset.holdout=0", "~metrics.generalisation"]
    assert main(["calibrate", *words, "--rungs", "1", "--times", "1"]) == 2
    said = capsys.readouterr().err
    for wrong in ("dataset.holdout", "metrics", "--rungs", "--times"):
        assert wrong in said
    assert "Traceback" not in said
    few = [word.replace("images=8", "images=3") for word in TINY]
    assert main(["calibrate", *few, f"base.path={tiny_sd}"]) == 2
    assert "dataset.holdout" in capsys.readouterr().err, "too few for one to be held out"
    assert not (home / "outputs").exists()
