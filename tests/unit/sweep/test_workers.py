"""Workers that hang, grow, starve or serve their time: real processes, a trial module that cooks nothing."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time

import pytest
from pretend_sweep import STEPS, cook, numbered_arms, spec
from sweep_checks import assert_study_agrees, by_arm, starts

from lorasweep.core.files import read_json
from lorasweep.core.records import LauncherOptions, Status
from lorasweep.core.run_folder import TrialRecord
from lorasweep.sweep.launchers import LaunchOptions, WorkerExit, last_line
from lorasweep.sweep.retry import RETRIES, status_of_death
from lorasweep.sweep.workers import pool, worker
from lorasweep.sweep.workers.pool import share_out


def cared_for(arms, *, workers=1, **limits):
    return dataclasses.replace(spec(arms), launcher=LauncherOptions(workers=workers, options={"pack": 1}, **limits))


def pids(folder):
    return [read_json(path)["pid"] for path in sorted(folder.glob("*/worker.json"))]


def test_a_hung_worker_is_killed_and_its_trial_goes_on_from_its_checkpoint(tmp_path):
    result = cook(cared_for({"a": {"hang_once": True}}, hang_s=1.5), tmp_path)
    assert result.state.counts == {"COMPLETED": 1}
    assert starts(tmp_path) == ["start 0000-a-s0 0", f"start 0000-a-s0 {STEPS // 2}"]
    # The log names the place, for whoever wants to know why.
    assert "_misbehave" in (tmp_path / "workers" / "worker-0.log").read_text()
    assert_study_agrees(tmp_path)


@pytest.mark.slow
def test_a_trial_that_always_hangs_is_given_up_with_a_reason(tmp_path):
    result = cook(cared_for({"a": {"ends": "hang"}}, hang_s=0.8), tmp_path)
    (trial,) = result.state.trials
    assert (trial.status, trial.attempt) == (Status.CRASHED, 3)
    assert "no sign of life for" in trial.reason and "worker-0.log" in trial.reason


def test_long_judging_without_an_event_is_no_hang(tmp_path):
    began = time.monotonic()
    result = cook(cared_for({"a": {"judging_s": 2.0}}, hang_s=1.0), tmp_path)
    assert time.monotonic() - began > 2 * 2.0, "it did not judge for longer than the deadline"
    (trial,) = result.state.trials
    assert (trial.status, trial.attempt) == (Status.COMPLETED, 1)


@pytest.mark.slow
def test_a_stopped_process_is_a_hung_one(tmp_path):
    def stop_it():
        while not pids(tmp_path):
            time.sleep(0.05)
        os.kill(pids(tmp_path)[0], signal.SIGSTOP)

    stopper = threading.Thread(target=stop_it)
    stopper.start()
    result = cook(cared_for({"a": {"step_s": 0.2}}, hang_s=1.5), tmp_path)
    stopper.join()
    (trial,) = result.state.trials
    assert (trial.status, trial.attempt) == (Status.COMPLETED, 2)


def test_a_worker_makes_room_after_so_many_trials(tmp_path):
    result = cook(cared_for(numbered_arms(5), recycle_after=2), tmp_path)
    assert result.state.counts == {"COMPLETED": 5}
    assert all(trial.attempt == 1 for trial in result.state.trials)
    seen = pids(tmp_path)
    assert seen[0] == seen[1] != seen[2] == seen[3] != seen[4]
    assert "it has cooked 2 trials" in (tmp_path / "workers" / "worker-0.log").read_text()


def test_a_worker_that_does_not_come_to_its_end_is_killed(tmp_path):
    result = cook(cared_for(numbered_arms(2, lingers=True), recycle_after=1, hang_s=1.5), tmp_path)
    assert result.state.counts == {"COMPLETED": 2}
    assert [(trial.attempt, trial.crashes) for trial in result.state.trials] == [(1, 0)] * 2


def test_a_worker_makes_room_when_its_memory_grows(tmp_path):
    result = cook(cared_for(numbered_arms(4, grow_mb=60), memory_growth_mb=100), tmp_path)
    assert result.state.counts == {"COMPLETED": 4}
    seen = pids(tmp_path)
    # Measured after the first trial, so the third is the one that is 120 MB above.
    assert seen[0] == seen[1] == seen[2] != seen[3]
    assert "its memory grew by" in (tmp_path / "workers" / "worker-0.log").read_text()


def test_an_error_costs_the_process_but_not_the_next_trial(tmp_path):
    result = cook(cared_for({"a": {"ends": "cuda_memory"}, "b": {}}), tmp_path)
    ended = by_arm(result.state)
    assert (ended["a"].status, ended["a"].attempt) == (Status.OUT_OF_MEMORY, 1)
    assert ended["b"].status is Status.COMPLETED
    first, second = pids(tmp_path)
    assert first != second
    assert_study_agrees(tmp_path)


def test_a_full_disk_stops_the_sweep_with_one_explanation_and_it_goes_on_later(tmp_path):
    arms = numbered_arms(3)
    result = cook(spec({**arms, "full": {"ends": "no_space"}}, workers=1), tmp_path)
    assert "no room left" in result.halted and "No space left on device" in result.halted
    assert result.exit_code == 1
    assert result.state.counts == {"COMPLETED": 3, "CANCELLED": 1}, "it is not the recipe that failed"
    stopped = by_arm(result.state)["full"]
    assert stopped.attempt == 1 and stopped.crashes == 0 and "No space left" in stopped.reason


def record(**changes):
    values = {"number": 0, "arm": "a", "seed": 0, "status": Status.RUNNING, "fingerprint": "f"}
    return TrialRecord(**{**values, **changes})


def test_want_of_memory_is_the_neighbours_fault_at_first():
    assert status_of_death(record(), starved=True) is Status.CRASHED
    assert status_of_death(record(crashes=RETRIES), starved=True) is Status.OUT_OF_MEMORY
    assert status_of_death(record(crashes=RETRIES), starved=False) is Status.CRASHED


def test_a_kill_by_the_kernel_is_told_from_any_other(tmp_path, monkeypatch):
    counter = tmp_path / "vmstat"
    counter.write_text("oom_kill 0\n")
    monkeypatch.setattr(worker, "VMSTAT", counter)
    options = LaunchOptions(
        trial_module="pretend_trial",
        jobs=2,
        gpus_wanted=False,
        log_folder=tmp_path / "workers",
        launcher=LauncherOptions(workers=2),
    )
    with pool.WorkerPool(options) as workers:
        first, second = workers.members
        os.kill(first.worker.process.pid, signal.SIGKILL)
        assert first.death() == WorkerExit(cause="the worker was killed by SIGKILL")
        counter.write_text("oom_kill 1\n")
        os.kill(second.worker.process.pid, signal.SIGKILL)
        assert second.death().starved


@pytest.mark.parametrize(
    ("launcher", "machine", "shape"),
    [
        (LauncherOptions(), {"gpus": 0, "cores": 8, "jobs": 20}, (8, 1)),
        (LauncherOptions(), {"gpus": 0, "cores": 8, "jobs": 3}, (3, 1)),
        (LauncherOptions(threads=None), {"gpus": 0, "cores": 8, "jobs": 3}, (3, 2)),
        (LauncherOptions(threads=None, workers=2), {"gpus": 0, "cores": 8, "jobs": 20}, (2, 4)),
        (LauncherOptions(threads=4), {"gpus": 0, "cores": 8, "jobs": 20}, (2, 4)),
        (LauncherOptions(), {"gpus": 2, "cores": 8, "jobs": 20}, (2, 1)),
        (LauncherOptions(workers=4), {"gpus": 2, "cores": 8, "jobs": 20}, (4, 1)),
        (LauncherOptions(threads=None, workers=16), {"gpus": 0, "cores": 8, "jobs": 20}, (16, 1)),
        (LauncherOptions(), {"gpus": 0, "cores": 8, "jobs": 0}, (1, 1)),
    ],
)
def test_workers_and_threads_share_the_machine(launcher, machine, shape):
    assert share_out(launcher, **machine) == shape


def test_more_workers_than_gpus_take_turns_on_them():
    supply = pool.Supply(workers=3, threads=1, gpus=("4", "GPU-b"))
    assert [pool._variables(index, supply)["CUDA_VISIBLE_DEVICES"] for index in range(3)] == [
        "4",
        "GPU-b",
        "4",
    ]


def test_the_last_line_of_a_log_is_the_last_one_that_says_something(tmp_path):
    log = tmp_path / "worker.log"
    assert last_line(log) == ""
    log.write_bytes(b"first\n  caf\xe9 broke \n\n   \n")
    assert last_line(log) == "caf\N{REPLACEMENT CHARACTER} broke"
