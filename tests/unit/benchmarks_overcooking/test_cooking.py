from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ready_processes import TrainingProcess, start_ready

from benchmarks.overcooking import cooking, grid, table
from benchmarks.overcooking.__main__ import main
from benchmarks.overcooking.witness import Counts
from lorasweep.core import files

RUN = grid.runs(setting=grid.Setting(steps=4, rungs=1))[0]


def test_nothing_starts_when_the_budget_is_spent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start_ready(monkeypatch, cooking, TrainingProcess)
    found = list(cooking.cook_all([RUN], tmp_path, processes=1, until=time.time() - 1, counts=Counts()))
    assert found == []
    assert cooking.status_of(tmp_path / "runs" / RUN.name) is None


def test_what_has_ended_is_not_cooked_again(tmp_path: Path) -> None:
    files.write_json(tmp_path / "runs" / RUN.name / "status.json", {"status": "COMPLETED"})
    found = list(cooking.cook_all([RUN], tmp_path, processes=1, until=time.time() + 60, counts=Counts()))
    assert found == []


def test_an_error_is_kept_and_stops_nobody(tmp_path: Path) -> None:
    broken = replace(RUN, overrides=("adapter=no_such_adapter",))
    assert cooking.cook_one(broken, tmp_path, until=time.time() + 60, counts=Counts()).startswith("ERROR")
    assert "no_such_adapter" in (tmp_path / "runs" / RUN.name / "error.txt").read_text()
    assert cooking.status_of(tmp_path / "runs" / RUN.name) not in cooking.FINAL


def test_the_random_control_waits_for_an_adapter_to_be_like(tmp_path: Path) -> None:
    planted = replace(RUN, name="control-random", planted="random")
    assert cooking.cook_one(planted, tmp_path, until=time.time() + 60, counts=Counts()).startswith("WAITING")


def group() -> dict[str, list[Any]]:
    return {
        "likeness": [0.5, 0.5],
        "corrupt": [0.0, 0.0],
        "hits": [[True], [True]],
        "shown": [["beach"], ["city"]],
    }


def test_checkpoints_are_rungs_that_were_both_measured_and_witnessed(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / RUN.name
    files.write_json(tmp_path / table.SETTINGS, {"steps": 4, "rungs": 1})
    groups = {name: group() for name in ("recombined", "plain", "stranger", "open")}
    files.write_json(folder / "run.json", {**vars(RUN), "recipe": vars(RUN.recipe)})
    files.write_json(folder / "status.json", {"status": "COMPLETED"})
    files.write_json(folder / "truth" / "base.json", {"groups": groups})
    files.write_json(folder / "truth" / "step_000020.json", {"groups": groups, "cpu_s": 1.5})
    for step, kind in ((20, "samples"), (20, "rung"), (40, "rung")):
        event = {"kind": kind, "time": 1.0, "step": step, "exposures_per_image": 3.0, "metrics": {"burn/score": 0.2}}
        files.append_jsonl(folder / "events.jsonl", event)
    (found,) = table.load(tmp_path)
    assert (found.step, found.metrics["burn/score"], found.ended) == (20, 0.2, True)
    assert "overcook/score" in found.metrics, "by today's limits"
    assert not found.truth.overcooked
    assert table.load(tmp_path, table.CONTROL) == []


def test_likeness_that_was_lost_again_is_unlearned(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / RUN.name
    files.write_json(tmp_path / table.SETTINGS, {"steps": 4, "rungs": 1})
    files.write_json(folder / "run.json", {**vars(RUN), "recipe": vars(RUN.recipe)})
    files.write_json(folder / "status.json", {"status": "COMPLETED"})
    names = ("recombined", "plain", "stranger", "open")
    base = {name: group() | {"likeness": [0.0, 0.0]} for name in names}
    files.write_json(folder / "truth" / "base.json", {"groups": base})
    for step, likeness in ((20, 0.5), (40, 0.8), (60, 0.3)):
        shown = {name: group() | {"likeness": [likeness, likeness]} for name in names}
        files.write_json(folder / "truth" / f"step_{step:06d}.json", {"groups": shown, "cpu_s": 1.0})
        event = {"kind": "rung", "time": 1.0, "step": step, "exposures_per_image": 1.0, "metrics": {}}
        files.append_jsonl(folder / "events.jsonl", event)
    unlearned = [c.truth.extra["unlearned"] for c in table.load(tmp_path)]
    assert unlearned == pytest.approx([0.0, 0.0, 0.5])


def test_a_home_without_runs_is_refused_with_the_next_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--home", str(tmp_path)]) == 2
    assert "`run` comes first" in capsys.readouterr().err


def test_another_scale_in_one_home_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--home", str(tmp_path), "--budget", "1s", "--only", "nothing is called so"]
    assert main([*words, "--steps", "40"]) == 0
    assert main([*words, "--steps", "80"]) == 2
    assert "steps" in capsys.readouterr().err
