"""Real kills: the driver by `kill -9` and by Ctrl-C, from outside, at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ready_processes import Script, start_script
from sweep_checks import assert_study_agrees, starts

from lorasweep.core.files import read_json
from lorasweep.core.run_folder import RunFolder
from lorasweep.sweep.ranking.state import read_state
from lorasweep.sweep.trial_writer import settle

SCRIPT = Path(__file__).parent / "drive_pretend.py"
ARMS = 6
STEP_S = 0.03
PATIENCE_S = 60.0


def start_driver(folder: Path, *, arms: int = ARMS, step_s: float = STEP_S) -> Script:
    # Its own session, as a terminal would give it, so that a signal to the group reaches driver and workers.
    return start_script(SCRIPT, str(folder), str(arms), str(step_s))


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never saw {what}"
        time.sleep(0.02)


def ended(folder: Path) -> dict[str, int]:
    """Trials whose end is on disk, and how often each was started so far."""
    names = [path.parent.name for path in folder.glob("*/status.json")]
    done = {name for name in names if is_over(folder / name)}
    return {name: sum(f" {name} " in line for line in starts(folder)) for name in done}


def is_over(run_folder: Path) -> bool:
    record = RunFolder(run_folder).record
    return record.status.is_final or RunFolder(run_folder).outcome(attempt=record.attempt) is not None


def worker_pids(folder: Path) -> set[int]:
    return {read_json(path)["pid"] for path in folder.glob("*/worker.json")}


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_a_driver_killed_at_random_moments_ends_complete_and_cooks_nothing_twice(tmp_path, seed):
    chance = random.Random(seed)
    for _ in range(3):
        driver = start_driver(tmp_path)
        # From before the first byte is written to well into the cooking.
        time.sleep(chance.uniform(0.0, 1.5))
        driver.kill()
        driver.wait()
        over = ended(tmp_path) if (tmp_path / "log.txt").exists() else {}
        if (tmp_path / "sweep.yaml").exists():
            assert "RUNNING" not in read_state(tmp_path).counts
    assert start_driver(tmp_path).wait(PATIENCE_S) == 0
    assert read_state(tmp_path).counts == {"COMPLETED": ARMS}
    now = ended(tmp_path)
    assert {name: now[name] for name in over} == over
    assert_study_agrees(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_worker_outlives_a_killed_driver(tmp_path):
    driver = start_driver(tmp_path, arms=2, step_s=0.2)
    wait_until(lambda: len(worker_pids(tmp_path)) == 2, "both workers")
    pids = worker_pids(tmp_path)
    assert all(alive(pid) for pid in pids)
    driver.kill()
    driver.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids), "the end of the workers")


def test_a_killed_sweep_that_was_settled_goes_on(tmp_path):
    driver = start_driver(tmp_path, arms=2, step_s=0.1)
    wait_until(lambda: len(worker_pids(tmp_path)) == 2, "both workers")
    driver.kill()
    driver.wait()
    settle(tmp_path, sorted(tmp_path.glob("000*")), metric="overcook/utility")
    assert {RunFolder(run).record.status for run in tmp_path.glob("000*")} == {"CANCELLED"}
    assert start_driver(tmp_path, arms=2, step_s=0.1).wait(PATIENCE_S) == 0
    assert read_state(tmp_path).counts == {"COMPLETED": 2}
    assert_study_agrees(tmp_path)


def test_a_worker_killed_from_outside_is_replaced(tmp_path):
    driver = start_driver(tmp_path, arms=2, step_s=0.1)
    wait_until(lambda: worker_pids(tmp_path), "a worker")
    os.kill(worker_pids(tmp_path).pop(), signal.SIGKILL)
    assert driver.wait(PATIENCE_S) == 0
    state = read_state(tmp_path)
    assert state.counts == {"COMPLETED": 2}
    assert sorted(trial.attempt for trial in state.trials) == [1, 2]
    assert_study_agrees(tmp_path)


STOPS = {
    "Ctrl-C": [signal.SIGINT],
    "timeout, which signals its child and then the group": [signal.SIGTERM, signal.SIGTERM],
    "a session that hangs up and is ended": [signal.SIGHUP, signal.SIGTERM],
}


@pytest.mark.parametrize("stop", STOPS)
def test_a_stop_of_the_whole_group_saves_and_exits_130(tmp_path, stop):
    driver = start_driver(tmp_path, arms=3, step_s=0.08)
    wait_until(lambda: len(worker_pids(tmp_path)) == 2, "both workers")
    for number in STOPS[stop]:
        os.killpg(driver.pid, number)
        time.sleep(0.01)
    assert driver.wait(PATIENCE_S) == 130
    assert read_state(tmp_path).counts == {"WAITING": 1, "CANCELLED": 2}
    assert len(list(tmp_path.glob("*/checkpoints/step.json"))) == 2
    assert all("Traceback" not in path.read_text() for path in (tmp_path / "workers").iterdir())
    if stop != "Ctrl-C":
        return  # what is left is the same, so that it goes on alike
    assert start_driver(tmp_path, arms=3, step_s=0.08).wait(PATIENCE_S) == 0
    assert read_state(tmp_path).counts == {"COMPLETED": 3}
    assert_study_agrees(tmp_path)


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    driver = start_driver(tmp_path, arms=2, step_s=300)
    wait_until(lambda: len(worker_pids(tmp_path)) == 2, "both workers")
    began = time.monotonic()
    for _ in range(2):
        os.killpg(driver.pid, signal.SIGINT)
        time.sleep(0.3)
    code = driver.wait(PATIENCE_S)
    assert code == 131, "a program that goes on to its next sweep is stopped, too"
    assert time.monotonic() - began < 200  # it would be 300
    assert read_state(tmp_path).counts == {"CANCELLED": 2}


def test_under_nohup_a_hang_up_changes_nothing(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` hands it down
    try:
        command = [sys.executable, str(SCRIPT), str(tmp_path), "2", "0.05"]
        driver = subprocess.Popen(command, start_new_session=True)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until(lambda: len(worker_pids(tmp_path)) == 2, "both workers")
    os.killpg(driver.pid, signal.SIGHUP)
    assert driver.wait(PATIENCE_S) == 0
    assert [trial.attempt for trial in read_state(tmp_path).trials] == [1, 1]
