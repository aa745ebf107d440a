"""After `lorasweep calibrate` the same command judges by the new limits, and trains nothing for it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_training import FEW_PICTURES, THREE_RUNGS

from lorasweep import config
from lorasweep.api import training
from lorasweep.cli import main
from lorasweep.components import bases
from lorasweep.core import files
from lorasweep.core.records import Status
from lorasweep.core.run_folder import RunFolder, SweepFolder
from lorasweep.plan import calibration
from lorasweep.plan.calibration import Calibration
from lorasweep.plan.symptoms import Limit

TINY = [*THREE_RUNGS, "optimizer.lr=1e-2"]


pytestmark = pytest.mark.usefixtures("quick_trials")


@pytest.fixture(scope="module")
def words(on_tiny_sd: list[str]) -> list[str]:
    return [*TINY, *FEW_PICTURES, *on_tiny_sd]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, quick_trials: None, words: list[str]) -> Path:
    """A home with a finished run; not to be written to."""
    home = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORASWEEP_HOME", str(home))
        assert main(["train", *words]) == 0
    return home


@pytest.fixture
def run(home: Path, finished: Path) -> Path:
    """A finished run in a home of one's own."""
    shutil.copytree(finished, home, dirs_exist_ok=True)
    return the_run(home)


def calibrate(words: list[str]) -> Calibration:
    """Leave what `lorasweep calibrate` would: limits by which it burns at once, and learns soon."""
    recipe = config.compose_recipe(words)
    made = Calibration(
        name="mine",
        holds_for=calibration.conditions(recipe, bases.fingerprint(recipe)),
        limits={"gap": Limit(limit=1e-3, width=1e-2), "unrelated_drift": Limit(limit=0.1, width=0.5)},
        learned=1e-6,
        gain=0.01,
    )
    made.write(calibration.own_path(made.holds_for))
    return made


def judged(run: Path) -> dict[str, Any]:
    """What a run says of its recipe, wherever it lies."""
    result = files.read_json(run / "metrics.json")
    return {**result, "events": [row["metrics"] for row in RunFolder(run).rungs()]}


def trained(run: Path) -> list[tuple[int, bytes]]:
    """The checkpoints, and when they were written."""
    states = [*run.glob("checkpoints/*/*")]
    return [(path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(states)]


def the_run(home: Path) -> Path:
    (run,) = (home / "outputs" / "train").iterdir()
    return run


def from_the_start(home: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the recipe comes to where the limits were there before."""
    shutil.copytree(home / "calibrations", home / "another" / "calibrations")
    monkeypatch.setenv("LORASWEEP_HOME", str(home / "another"))
    assert main(["train", *words]) == 0
    found = judged(the_run(home / "another"))
    monkeypatch.setenv("LORASWEEP_HOME", str(home))
    return found


def test_a_finished_run_is_judged_anew_as_if_the_limits_had_been_there(
    home: Path, run: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, weights = judged(run), trained(run)
    made = calibrate(words)
    assert main(["train", *words]) == 0
    after = judged(run)
    assert after["calibration"] == {"name": "mine", "digest": made.digest, "fits": True}
    assert after["events"] != before["events"] and after["verdict"] != before["verdict"]
    assert trained(run) == weights, "nothing was trained"
    assert after == from_the_start(home, words, monkeypatch)

    attempt = RunFolder(run).record.attempt
    assert main(["train", *words]) == 0 and RunFolder(run).record.attempt == attempt, "once is enough"


def test_a_run_that_goes_on_is_judged_by_one_calibration(
    home: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(event: dict[str, Any]) -> bool:
        if event["kind"] == "step" and event["step"] == 3:
            raise RuntimeError("stopped")
        return True

    with pytest.raises(RuntimeError, match="stopped"):
        training.run_trial(training.compose(*words), on_event=stop)
    assert len(RunFolder(the_run(home)).rungs()) == 1
    calibrate(words)
    assert main(["train", *words]) == 0
    assert judged(the_run(home)) == from_the_start(home, words, monkeypatch)


@pytest.mark.parametrize("removed", ["checkpoints/*/*", "checkpoints/*/state.safetensors", "checkpoints/*02/*"])
def test_a_run_without_its_checkpoints_stays_as_it_was_judged_and_says_so(
    run: Path, words: list[str], caplog: pytest.LogCaptureFixture, removed: str
) -> None:
    before = judged(run)
    for file in run.glob(removed):
        file.unlink()
    there = trained(run)
    calibrate(words)
    assert main(["train", *words]) == 0 and judged(run) == before
    assert trained(run) == there, "nothing was trained"
    assert "judged by other limits than today's" in caplog.text and run.name in caplog.text


@pytest.mark.usefixtures("training_workers")
def test_a_finished_sweep_is_judged_anew_all_of_it(home: Path, words: list[str]) -> None:
    command = ["sweep", *words, "adapter.dim=2,4", "launcher.workers=1", "launcher.pack=1", "--json"]
    assert main(command) == 0
    (sweep,) = (SweepFolder(path) for path in (home / "outputs").iterdir())
    before = {run.path: trained(run.path) for run in sweep.runs}
    made = calibrate(words)
    first = sweep.runs[0]  # as if judging it anew had found no memory
    first.write_record(dataclasses.replace(first.record, status=Status.OUT_OF_MEMORY, value=None))
    assert main(command) == 0
    for run in sweep.runs:
        assert run.judged_by == made.digest and trained(run.path) == before[run.path]
        assert run.record.value == run.result["metrics"]["overcook/utility"]
    rows = files.read_json(sweep.path / "leaderboard.json")["arms"]
    assert sorted(row["value"] for row in rows) == sorted(run.record.value for run in sweep.runs)


@pytest.mark.usefixtures("training_workers")
def test_a_pruned_trial_says_what_it_is_worth_by_the_new_limits(home: Path, words: list[str]) -> None:
    """It is as if it had been stopped at its last rung: what pruned it is not the point."""
    command = ["sweep", *words, "adapter.dim=2,4", "launcher.workers=1", "launcher.pack=1", "--json"]
    assert main(command) == 0
    (sweep,) = (SweepFolder(path) for path in (home / "outputs").iterdir())
    pruned, completed = sweep.runs
    pruned.write_record(dataclasses.replace(pruned.record, status=Status.PRUNED))
    before, weights = judged(pruned.path), trained(pruned.path)
    made = calibrate(words)
    assert main(command) == 0
    after, record = judged(pruned.path), pruned.record
    assert after["verdict"] != before["verdict"] and trained(pruned.path) == weights
    assert pruned.judged_by == completed.judged_by == made.digest and record.status is Status.PRUNED
    assert record.value == after["metrics"]["overcook/utility"] != before["metrics"]["overcook/utility"]
    assert after["events"] == [rung["metrics"] for rung in after["rungs"]] != before["events"]


def test_files_that_were_judged_are_judged_anew(home: Path, run: Path, words: list[str]) -> None:
    weights = RunFolder(run).weights
    named = [str(shutil.copy(weights(step), home / f"lora-{step:06d}.safetensors")) for step in (2, 4, 6)]
    kept = [word for word in words if not word.startswith(("train", "optimizer"))]
    assert main(["judge", *named, *kept, "train.device=cpu"]) == 0
    (judgement,) = (each.path for each in SweepFolder(home / "outputs" / "judge").runs)
    before = judged(judgement)
    made = calibrate(words)
    assert main(["judge", *named, *kept, "train.device=cpu"]) == 0
    after = judged(judgement)
    assert after["calibration"]["digest"] == made.digest != before["calibration"]["digest"]
    assert [row["step"] for row in after["rungs"]] == [2, 4, 6] and after["events"] != before["events"]


def test_a_calibration_of_the_same_numbers_changes_nothing(run: Path, words: list[str]) -> None:
    record = RunFolder(run).record
    recipe = config.compose_recipe(words)
    today = calibration.of_today(recipe)
    mine = dataclasses.replace(today, name="mine", holds_for=calibration.conditions(recipe, bases.fingerprint(recipe)))
    mine.write(calibration.own_path(mine.holds_for))
    assert main(["train", *words]) == 0 and RunFolder(run).record == record
