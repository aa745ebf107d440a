"""Snapshots from run folders alone."""

import dataclasses
import subprocess
import sys

import pretend_sweep
import pytest
from pretend_sweep import numbered_arms, spec

from lorasweep.core.files import append_jsonl, write_json
from lorasweep.core.records import Status
from lorasweep.core.run_folder import RunFolder, TrialRecord
from lorasweep.sweep.manifest import declare, write_manifest
from lorasweep.sweep.queue import Pace
from lorasweep.sweep.ranking.leaderboard import status_json
from lorasweep.sweep.ranking.state import TrialState, are_trained, estimate, params, read_state
from lorasweep.sweep.workers.lock import sweep_lock


@pytest.fixture
def half_done(tmp_path):
    """Trial 0 completed, 1 running, 2 not begun."""
    declared = spec(numbered_arms(3, value=0.5))
    write_manifest(tmp_path, declare(declared, pretend_sweep.plans(declared)))
    common = {"seed": 0, "fingerprint": "f", "steps": 100, "attempt": 1}
    done = TrialRecord(number=0, arm="arm0", status=Status.COMPLETED, step=100, value=0.7, **common)
    running = TrialRecord(number=1, arm="arm1", status=Status.RUNNING, step=0, **common)
    for record in (done, running):
        RunFolder(tmp_path / f"000{record.number}-{record.arm}-s0").write_record(record)
    verdict = {"state": "done", "sentence": "Done."}
    write_json(tmp_path / "0000-arm0-s0" / "metrics.json", {"metrics": {"a/b": 1.0}, "verdict": verdict})
    write_json(tmp_path / "0000-arm0-s0" / "mlflow.json", {"run_id": "abc"})
    for step in range(1, 41):
        event = {"kind": "step", "time": 1000.0 + step / 2, "step": step, "metrics": {"train/loss": 1 / step}}
        append_jsonl(tmp_path / "0001-arm1-s0" / "events.jsonl", event)
    with open(tmp_path / "0001-arm1-s0" / "events.jsonl", "a") as file:
        file.write('{"kind": "step", "ti')  # torn by a kill
    return tmp_path


def test_a_driven_sweep_is_read_with_progress_and_time_left(half_done):
    with sweep_lock(half_done):
        state = read_state(half_done)
    assert state.counts == {"WAITING": 1, "RUNNING": 1, "COMPLETED": 1}
    done, running, waiting = state.trials
    assert (done.value, done.metrics, done.verdict["state"], done.mlflow_run_id) == (
        0.7,
        {"a/b": 1.0},
        "done",
        "abc",
    )
    assert (running.step, running.loss) == (40, 1 / 40)
    assert running.eta_s == pytest.approx(30.0)  # 60 steps at two a second
    assert (waiting.status, waiting.attempt, waiting.loss) == (Status.WAITING, 0, None)


def test_running_without_a_driver_is_shown_as_what_it_is(half_done):
    state = read_state(half_done)
    assert state.driver is None
    assert state.trials[1].status is Status.CANCELLED
    assert "same command" in state.trials[1].reason


def test_the_json_document_has_what_scripts_rely_on(half_done):
    document = status_json(read_state(half_done))
    assert document["counts"] == {"WAITING": 1, "COMPLETED": 1, "CANCELLED": 1}
    assert document["total"] == 3
    assert set(document["trials"][0]) >= {
        "number",
        "status",
        "arm",
        "seed",
        "params",
        "value",
        "metrics",
        "step",
        "steps",
        "attempt",
        "reason",
        "run_folder",
        "mlflow_run_id",
    }
    assert document["trials"][2]["params"] == {"tag": 2, "value": 0.5}
    assert document["trials"][1]["mlflow_run_id"] is None


def test_params_are_read_as_values():
    overrides = ["optimizer.lr=1e-4", "+a=true", "b=null", "c=adamw", "d=a=b", "e=[1,2]", "f=nan"]
    assert params(overrides) == {
        "optimizer.lr": 1e-4,
        "a": True,
        "b": None,
        "c": "adamw",
        "d": "a=b",
        "e": [1, 2],
        "f": "nan",
    }


def test_damaged_files_read_as_absent(half_done):
    (half_done / "0000-arm0-s0" / "status.json").write_text("{")
    (half_done / "0000-arm0-s0" / "metrics.json").write_text("[]")
    assert read_state(half_done).trials[0].status is Status.WAITING


@pytest.mark.parametrize("adapter", [None, 3, {"name": 5}, [1]])
def test_a_recipe_without_an_adapter_says_nothing_of_files(adapter):
    unknown, files = {"adapter": adapter}, {"adapter": {"name": "files"}}
    assert are_trained([unknown, {}]) and not are_trained([unknown, files])


def test_single_runs_are_listed_though_nobody_declared_them(tmp_path):
    record = TrialRecord(number=0, arm="train", seed=3, status=Status.RUNNING, fingerprint="f", steps=10)
    for name, started_at in (("abc-s3", 20.0), ("xyz-s3", 10.0)):
        RunFolder(tmp_path / name).write_record(dataclasses.replace(record, started_at=started_at))
    (tmp_path / "notes").mkdir()
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "status.json").write_text("{torn")
    with sweep_lock(tmp_path / "abc-s3"):
        state = read_state(tmp_path)
    told = [(t.number, t.arm, t.seed, t.status) for t in state.trials]
    assert told[:2] == [(0, "xyz-s3", 3, Status.CANCELLED), (1, "abc-s3", 3, Status.RUNNING)], "the oldest first"
    assert told[2:] == [(2, "0", 0, Status.WAITING)], "a status that cannot be read hides no run"
    assert state.trials[1].run_folder == str(tmp_path / "abc-s3")
    assert state.driver.startswith("process")


def test_single_runs_on_several_folders_of_images_are_said_not_to_compare(tmp_path):
    for name, path in (("a", "mine"), ("b", "mine"), ("c", "theirs")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text(f"dataset: {{path: {path}}}\n")
        (tmp_path / name / "plan.json").write_text('{"steps": 4}')
        assert any("do not compare" in note for note in read_state(tmp_path).notes) == (name == "c")


def test_the_estimate_shares_the_waiting_trials_among_the_workers():
    def trial(number, status, step, eta_s=None):
        return TrialState(
            number=number,
            arm="a",
            seed=0,
            status=status,
            step=step,
            steps=100,
            attempt=1,
            run_folder="",
            eta_s=eta_s,
        )

    running = [trial(0, Status.RUNNING, 50, 25.0), trial(1, Status.RUNNING, 50, 25.0)]
    waiting = [trial(number, Status.WAITING, 0) for number in (2, 3)]
    assert estimate([*running, *waiting], workers=2) == pytest.approx((25 + 25 + 50 + 50) / 2)
    assert estimate(running, workers=2) == pytest.approx(25.0)
    assert estimate(waiting, workers=2) is None


def test_pace_is_a_mean_that_counts_the_pauses():
    pace = Pace()
    assert pace.seconds_for(10) is None
    for time_s, step in ((100.0, 5), (101.0, 7)):
        pace.saw(time_s, step)
    assert pace.seconds_for(10) == pytest.approx(5.0)
    pace.saw(106.0, 7)  # judged for five seconds
    assert pace.seconds_for(10) == pytest.approx(30.0)
    pace.saw(90.0, 8)  # the clock was set back
    assert pace.seconds_for(10) is None


def test_reading_a_state_imports_nothing_heavy(half_done):
    code = (
        "import sys, pathlib; from lorasweep.sweep.ranking.state import read_state;"
        f"read_state(pathlib.Path({str(half_done)!r}));"
        "print(sorted({'torch', 'optuna', 'mlflow', 'hydra'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
