"""`kill -9` in every phase of a trial: of the driver around each of its calls, of the worker likewise.

After each the same command is given again, and must end with all trials completed, none cooked again that had
ended, and a study that agrees.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from pretend_sweep import cook, numbered_arms, spec
from ready_processes import start_script
from sweep_checks import assert_study_agrees, by_arm, log

from lorasweep.core.run_folder import RunFolder
from lorasweep.sweep.ranking.state import read_state

SCRIPT = Path(__file__).parent / "drive_pretend.py"
ARMS = 3
PATIENCE_S = 120.0
SWEEP, STUDY = "lorasweep.sweep", "lorasweep.sweep.search.study:SweepStudy"

DRIVER_DEATHS = {
    "declared, nothing asked": f"{SWEEP}.driver:write_manifest:after:1",
    "manifest half written": "os:replace:before:1",
    "study made, nothing in it": f"{STUDY}.reconcile:before:1",
    "inputs of a trial written": f"{SWEEP}.trial_writer:_write_inputs:after:2",
    "written ahead, not asked": "lorasweep.core.run_folder:RunFolder.write_record:after:1",
    "in the study, not handed out": f"{STUDY}._add_running:after:1",
    "asked": f"{STUDY}.begin:after:2",
    "handed out": f"{SWEEP}.loop:SweepLoop._give:after:2",
    "a rung noted, not reported": f"{STUDY}.report:before:1",
    "a rung reported, no verdict yet": f"{STUDY}.report:after:2",
    "an end heard, not noted": f"{SWEEP}.trial_writer:TrialWriter.end:before:1",
    "an end noted, not told": f"{STUDY}.end:before:1",
    "in the middle of telling": "optuna.study:Study.tell:before:1",
    "told": f"{STUDY}.end:after:1",
    "ranking": f"{SWEEP}.ranking.leaderboard:write:before:1",
    "the last one told": f"{STUDY}.end:after:{ARMS}",
    "finished": f"{SWEEP}.ranking.announce:Announcer.close:after:1",
}


def drive(folder: Path, *death: str) -> int:
    return start_script(SCRIPT, str(folder), str(ARMS), "0.01", *death).wait(PATIENCE_S)


def over(folder: Path) -> set[str]:
    """Run folders of trials whose end is on disk, noted by the driver or only left by the worker."""
    found = set()
    for path in folder.glob("*/status.json"):
        record = RunFolder(path.parent).record
        if record.status.is_final or RunFolder(path.parent).outcome(attempt=record.attempt) is not None:
            found.add(path.parent.name)
    return found


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param(phase, marks=[] if phase in ("asked", "an end noted, not told") else pytest.mark.slow)
        for phase in DRIVER_DEATHS
    ],
)
def test_a_driver_that_dies_in_any_phase_loses_nothing(tmp_path, phase):
    """All of them: `pytest -m "slow or not slow" tests/unit/sweep/test_phases.py`."""
    assert drive(tmp_path, DRIVER_DEATHS[phase]) == -signal.SIGKILL, "it never came to this phase"
    ended = over(tmp_path)
    before = log(tmp_path) if (tmp_path / "log.txt").exists() else []
    assert drive(tmp_path) == 0
    assert read_state(tmp_path).counts == {"COMPLETED": ARMS}
    again = {line.split()[1] for line in log(tmp_path)[len(before) :] if line.startswith("start")}
    assert not again & ended, "cooked again what had ended"
    assert_study_agrees(tmp_path)


def test_a_driver_killed_twice_at_the_same_place_still_gets_there(tmp_path):
    for _ in range(2):
        assert drive(tmp_path, f"{STUDY}.end:before:1") == -signal.SIGKILL
    assert drive(tmp_path) == 0
    assert_study_agrees(tmp_path)


WORKER_DEATHS = ("start", "train", "half a checkpoint", "judge", "half a result", "result", "outcome left")


def test_a_worker_that_dies_in_any_phase_costs_one_attempt_at_most(tmp_path):
    dying = {f"arm{index}": {"dies_in": phase} for index, phase in enumerate(WORKER_DEATHS)}
    result = cook(spec({**dying, "calm": {}}, workers=2), tmp_path)
    assert result.exit_code == 0
    trials = by_arm(result.state)
    # An outcome that was left in the run folder counts, though nobody was told of it.
    wanted = {phase: 1 if phase == "outcome left" else 2 for phase in WORKER_DEATHS}
    assert {each["dies_in"]: trials[arm].attempt for arm, each in dying.items()} == wanted
    assert len(list(tmp_path.glob("*/died"))) == len(dying), "one never came to its phase"
    assert trials["calm"].attempt == 1 and {trial.value for trial in trials.values()} == {0.5}
    assert_study_agrees(tmp_path)


def test_numbered_arms_differ():
    assert len({arm.recipe.fingerprint() for arm in spec(numbered_arms(ARMS)).arms}) == ARMS
