"""`lorasweep calibrate`: which controls are the same ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lorasweep.cli import main
from lorasweep.core.files import append_jsonl
from lorasweep.core.records import Status
from lorasweep.sweep import driver
from lorasweep.trial.judge.score import HELD_OUT


def test_another_recipe_for_the_same_base_has_controls_of_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders: list[str] = []

    def interrupted(spec: Any, plans: Any, *, folder: Path, **_: Any) -> SimpleNamespace:
        folders.append(folder.name)
        return SimpleNamespace(interrupted=True, halted="")

    monkeypatch.setattr(driver, "run_sweep", interrupted)
    for words in (
        ["train.max_steps=8"],
        ["train.max_steps=8", "launcher.workers=1", "tracking=none"],
        ["train.max_steps=9"],
        ["train.max_steps=8", "--times=11"],
    ):
        assert main(["calibrate", *words]) == 130
    first, elsewhere, *others = folders
    assert first == elsewhere, "who cooks and where it is mirrored change nothing"
    assert len({first, *others}) == 3
    assert "will stay undercooked: try " in capsys.readouterr().err, "known before hours of cooking"


@pytest.mark.parametrize("status", [Status.CRASHED, Status.OUT_OF_MEMORY])
def test_a_control_that_failed_half_way_places_no_limit(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: Status
) -> None:
    def ended(spec: Any, plans: Any, *, folder: Path, **_: Any) -> SimpleNamespace:
        trials = []
        for number, arm in enumerate(("long", "hot")):
            run = folder / f"{number:04d}-{arm}-s0"
            run.mkdir(parents=True)
            for step, held_out in enumerate((1.0, 0.7, 0.9)):  # learned, and still far from what it would come to
                metrics = {HELD_OUT: held_out}
                rung = {"kind": "rung", "time": 0.0, "step": step, "exposures_per_image": step, "metrics": metrics}
                append_jsonl(run / "events.jsonl", {**rung, "replicates": {}})
            how = (status, "no luck") if arm == "hot" else (Status.COMPLETED, "")
            trials.append(
                SimpleNamespace(arm=arm, seed=0, run_folder=str(run), status=how[0], reason=how[1], number=number)
            )
        return SimpleNamespace(interrupted=False, halted="", state=SimpleNamespace(trials=trials))

    monkeypatch.setattr(driver, "run_sweep", ended)
    monkeypatch.setattr("lorasweep.sweep.calibrate.negative_controls.judge_nulls", lambda *_, **__: {"random": []})
    assert main(["calibrate", "train.max_steps=8"]) == 1
    said = capsys.readouterr().err
    assert f"control `hot` with seed 0 ended {status}: no luck" in said and "is deleted" in said
    assert not list(home.rglob("calibrations/*"))
