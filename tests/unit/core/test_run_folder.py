"""Run folders that are half written, damaged or a stranger's read as far as they can be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorasweep.core import files
from lorasweep.core.records import Outcome, Status
from lorasweep.core.run_folder import RunFolder, SweepFolder, TrialRecord, raters

RECORD = TrialRecord(number=3, arm="a b", seed=1, status=Status.COMPLETED, fingerprint="f")


@pytest.mark.parametrize("damage", ["", "{", "[1]", "\x00", "!!python/object:os.system {}"])
def test_damaged_documents_are_empty(damage: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for name in ("status.json", "plan.json", "metrics.json", "provenance.json", "recipe.yaml", "outcome.json"):
        (tmp_path / name).write_text(damage)
    assert run.exists and run.record is None and run.outcome(attempt=1) is None
    assert run.plan == run.recipe == run.provenance == run.status == {}
    assert run.result == {"metrics": {}, "missing": {}, "verdict": {}}


def test_parts_of_the_result_that_are_none_are_empty(tmp_path: Path) -> None:
    files.write_json(
        tmp_path / "metrics.json", {"step": 4, "metrics": {"burn/score": 0.5}, "verdict": None, "missing": 3}
    )
    assert RunFolder(tmp_path).result == {"step": 4, "metrics": {"burn/score": 0.5}, "missing": {}, "verdict": {}}


def test_numbers_and_rungs_of_the_result_that_are_none_are_left_out(tmp_path: Path) -> None:
    rung = {"step": 2, "exposures_per_image": 1.5, "metrics": {"burn/score": 0.5}}
    rungs = [rung, {"step": 4}, rung | {"step": "6"}, rung | {"metrics": {"burn/score": "high"}}, 3]
    measured = {"burn/score": 0.5, "norms/a": "0.5", "norms/b": None, "norms/c": float("nan")}
    (tmp_path / "metrics.json").write_text(
        json.dumps({"step": "x", "weight": None, "rungs": rungs, "metrics": measured})
    )
    assert RunFolder(tmp_path).result == {
        "rungs": [rung], "metrics": {"burn/score": 0.5}, "missing": {}, "verdict": {},
    }  # fmt: skip
    (tmp_path / "metrics.json").write_text('{"rungs": 5}')
    assert RunFolder(tmp_path).result["rungs"] == []


@pytest.mark.parametrize("change", [{"step": "7"}, {"status": "PAUSED"}, {"measured": None}, {"metrics": None}])
def test_records_of_other_versions_say_nothing(change: dict[str, object], tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_record(RECORD)
    run.write_outcome(Outcome(status=Status.PRUNED, step=7), attempt=1)
    record, left = files.read_json(tmp_path / "status.json"), files.read_json(tmp_path / "outcome.json")
    files.write_json(tmp_path / "status.json", record | change)
    files.write_json(tmp_path / "outcome.json", left | {"outcome": left["outcome"] | change})
    assert (run.record is None) == ("metrics" not in change), "a key that it does not know is left out"
    assert run.outcome(attempt=1) is None


def test_hidden_copies_of_macos_are_nobodys_ratings(tmp_path: Path) -> None:
    (tmp_path / "ratings").mkdir()
    for name in ("me.jsonl", "._me.jsonl"):
        (tmp_path / "ratings" / name).write_text("")
    assert raters(tmp_path) == ["me"]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "mine")
    run = sweep.run(3, "a b", 1)
    assert run.name == "mine/0003-a-b-s1" and not run.exists and not sweep.exists
    run.write_record(RECORD)
    run.write_outcome(Outcome(status=Status.PRUNED, step=7), attempt=2)
    (sweep.path / ".hidden").mkdir()
    files.write_json(sweep.path / "status" / "notes.json", {})
    assert run.record == RECORD and sweep.exists and sweep.runs == [run] and not sweep.is_declared
    outcome = run.outcome(attempt=2)
    assert outcome is not None and outcome.step == 7 and run.outcome(attempt=1) is None
    files.write_json(run.path / "status.json", {**run.status, "of_a_later_version": 1})
    assert run.record == RECORD


def test_the_end_of_a_log_is_whole_lines(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert list(run.last_events(100)) == list(run.events()) == []
    for step in range(20):
        event = {"kind": "rung" if step % 10 == 0 else "step", "time": 1.0, "step": step, "metrics": {}}
        files.append_jsonl(tmp_path / "events.jsonl", {**event, "exposures_per_image": 1.0})
    with open(tmp_path / "events.jsonl", "a") as file:
        file.write('{"kind": "torn')
    assert [event["step"] for event in run.last_events(10_000)] == list(range(20))
    assert [event["step"] for event in run.last_events(200)] == [18, 19]
    assert [event["step"] for event in run.rungs()] == [0, 10]
