from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.overcooking import controls, grid, table
from benchmarks.overcooking.table import Checkpoint
from lorasweep import config, plan

Pretend = Callable[..., list[Checkpoint]]
RUNS = {"base", "random", "copier", "class-only", "saturated", "regularised", "plain"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, grid.Run]:
    home = tmp_path_factory.mktemp("home")
    found = controls.runs(home, setting=grid.Setting(steps=4, rungs=1))
    return {run.recipe.name.removeprefix("control-"): run for run in found}


def test_the_six_controls_and_a_twin(runs: dict[str, grid.Run]) -> None:
    assert set(runs) == RUNS
    assert {name for name, run in runs.items() if run.planted} == set(controls.PLANTED)
    assert len(controls.RULES) == 6


def test_the_recipes_plan(runs: dict[str, grid.Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LORASWEEP_HOME", str(tmp_path))
    plans = {name: plan.make_plan(config.compose_recipe(run.overrides)) for name, run in runs.items()}
    assert plans["plain"].trigger == plans["regularised"].trigger == controls.IDENTITY
    assert plans["class-only"].trigger is None
    assert all(set(found.prompts) >= {"in_distribution", "class"} for found in plans.values())
    called = [controls.IDENTITY in image.caption for image in plans["regularised"].train_images()]
    assert 0 < sum(called) < len(called)


def test_the_vivid_set_is_vivid_and_nothing_else(runs: dict[str, grid.Run], tmp_path: Path) -> None:
    def chroma(name: str) -> float:
        folder = next(word for word in runs[name].overrides if word.startswith("dataset.path=")).split("'")[1]
        paths = sorted(Path(folder).glob("*/*.png"))
        return float(np.mean([np.ptp(np.asarray(Image.open(path), dtype=float), axis=2).mean() for path in paths]))

    assert chroma("saturated") > 1.2 * chroma("plain")


def test_class_images_show_nobody_like_the_subject(runs: dict[str, grid.Run]) -> None:
    words = runs["class-only"].overrides
    folder = Path(next(word for word in words if word.startswith("dataset.path=")).split("'")[1])
    record = json.loads((folder / "world.json").read_text())
    assert record["subject"] == controls.IDENTITY
    assert len(record["images"]) == controls.CLASS_IMAGES
    assert all(spec["hair_color"] != "white" and spec["head_mark"] == "none" for spec in record["images"].values())


def test_rules_tell_right_from_wrong(pretend: Pretend) -> None:
    checkpoint = pretend(runs=1)[0]

    def control(name: str, **metrics: float) -> Checkpoint:
        rung = {**checkpoint.rung, "metrics": metrics}
        return replace(checkpoint, run=name, recipe=f"control-{name}", rung=rung)

    untouched = control("base", **{"generalisation/rise": 0.0, "identity/score": 0.0})
    (row,) = controls.judged([untouched])
    assert row["right"]
    (row,) = controls.judged([control("base", **{"generalisation/rise": 9.0, "identity/score": 0.0})])
    assert not row["right"]
    twins = [
        control("plain", **{"prior_drift/class": 1.5}),
        control("regularised", **{"prior_drift/class": 0.2}),
    ]
    assert [row["right"] for row in controls.judged(twins)] == [True]
    assert [row["right"] for row in controls.judged([twins[1]])] == [False]  # without a twin nothing is shown


def test_runs_that_copy_train_on_folders_of_few_images(tmp_path: Path) -> None:
    planned = controls.copying_runs(tmp_path, setting=grid.Setting())
    assert len({run.name for run in planned}) == len(planned) == 4
    for run in planned:
        assert run.recipe.name.startswith(table.COPYING)
        planned_run = plan.make_plan(config.compose_recipe(run.overrides))
        captions = {image.caption for image in planned_run.train_images()}
        assert set(planned_run.prompts["in_distribution"]) <= captions, "asked for by the captions of its images"
        assert len(planned_run.images) == run.recipe.dials["images"]


def test_what_sees_copies_is_held_against_their_true_share(pretend: Pretend) -> None:
    checkpoints = pretend(runs=3)  # copy_rate is a tenth of the true excess
    found = controls.copied(checkpoints)
    assert found["runs"] == 3 and 0 < found["copying"] < found["checkpoints"]
    assert found["metrics"]["memorisation/copy_rate"] == {"within": 1.0, "area": 1.0}
    assert np.isnan(found["metrics"]["memorisation/nearness"]["area"]), "not among the metrics"
