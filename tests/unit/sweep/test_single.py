"""A single run is a sweep of one arm: the same lock, statuses, retries, fingerprint and reuse."""

from __future__ import annotations

import dataclasses
import errno
import gc
import os
import signal
import sys
import time
import weakref
from contextlib import nullcontext
from pathlib import Path

import pretend_trial
import pytest
from pretend_sweep import STEPS, TRIAL_MODULE, cook, plan, recipe, spec
from ready_processes import Script, start_script
from sweep_checks import starts

from lorasweep.cli import main
from lorasweep.core.errors import ConfigError, InputError, SweepHeldError
from lorasweep.core.files import read_json
from lorasweep.core.records import Status
from lorasweep.core.run_folder import RunFolder
from lorasweep.sweep.ranking.state import read_state
from lorasweep.sweep.single import run_trial
from lorasweep.sweep.workers.lock import holder, sweep_lock

PATIENCE_S = 60.0


def run(folder: Path, *, fresh: bool = False, seed: int = 0, parent=None, **ways):
    made = dataclasses.replace(recipe(**ways), seed=seed)
    return run_trial(
        made,
        plan(made),
        folder,
        shown=lambda: nullcontext(lambda event: True),
        fresh=fresh,
        parent=parent,
        trial_module=TRIAL_MODULE,
    )


@pytest.fixture
def folder(home: Path) -> Path:
    """A run folder where `train` has its own."""
    return home / "outputs" / "train" / "abc-s0"


def test_it_leaves_what_a_trial_leaves_and_is_not_cooked_twice(folder):
    done = run(folder, value=0.3)
    assert (done.cooked, done.record.status, done.record.value) == (True, Status.COMPLETED, 0.3)
    assert (done.record.attempt, done.record.step) == (1, STEPS) and RunFolder(folder).record == done.record
    for name in ("recipe.yaml", "plan.json", "outcome.json", "events.jsonl", "adapter.safetensors"):
        assert (folder / name).exists(), name
    again = run(folder, value=0.3)
    assert not again.cooked and again.record == done.record and len(starts(folder.parent)) == 1


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_what_hears_the_events_may_fail_and_the_run_goes_on_later(folder, kind):
    def deaf(event):
        raise kind(f"the caller's own, at step {event['step']}")

    made = recipe(value=0.3)
    with pytest.raises(kind, match="the caller's own, at step 0"):
        run_trial(made, plan(made), folder, shown=lambda: nullcontext(deaf), trial_module=TRIAL_MODULE)
    assert RunFolder(folder).record.status is Status.CANCELLED
    assert run(folder, value=0.3).record.status is Status.COMPLETED


def test_what_crashes_is_tried_three_times_and_again_when_the_command_is_given_again(folder):
    for attempts in (3, 6):
        done = run(folder, ends="raise")
        assert done.record.status is Status.CRASHED and done.record.attempt == attempts
        assert "no luck at step 1 (3 crashes)" in done.record.reason and done.exit_code == 1
        assert "ValueError" in (folder / "error.txt").read_text()


@pytest.mark.parametrize("ends", ["raise", "COMPLETED"])
def test_what_an_attempt_had_loaded_is_gone_when_the_next_one_loads(folder, monkeypatch, ends):
    loaded, there = list[weakref.ref](), list[int]()

    class Base:
        def __init__(self):
            self.itself = self  # as torch's modules do

    class Resources(pretend_trial.TrialResources):
        def __init__(self, **shares):
            super().__init__(**shares)
            there.append(sum(base() is not None for base in loaded))
            self.base = Base()
            loaded.append(weakref.ref(self.base))

    monkeypatch.setattr(pretend_trial, "TrialResources", Resources)
    gc.disable()  # as while a base is loaded
    try:
        run(folder, ends=ends)
        run(folder.with_name("next"), ends=ends, value=0.4)
    finally:
        gc.enable()
    assert len(there) == (6 if ends == "raise" else 2) and set(there) == {0}
    assert not any(base() for base in loaded), "the caller's own program goes on"


@pytest.mark.parametrize(
    ("ends", "status", "code"),
    [("invalid", "INVALID", 2), ("memory", "OUT_OF_MEMORY", 1), ("DIVERGED", "DIVERGED", 1)],
)
def test_other_ends_are_those_of_a_sweep(folder, ends, status, code):
    done = run(folder, ends=ends)
    assert (done.record.status, done.exit_code, done.record.attempt) == (status, code, 1)
    # What diverged was answered; memory may be free now, and a library installed.
    assert run(folder, ends=ends).cooked is (ends != "DIVERGED")


def test_a_full_disk_is_told_and_the_run_goes_on_later(folder):
    done = run(folder, ends="no_space")
    assert "no room left" in done.halted and done.exit_code == 1
    assert read_state(folder.parent).trials[0].status is Status.CANCELLED


def test_two_processes_do_not_cook_in_one_folder(folder):
    folder.mkdir(parents=True)
    with sweep_lock(folder), pytest.raises(SweepHeldError, match=f"process {os.getpid()}"):
        run(folder, parent={"parent": "x/y"})
    assert {path.name for path in folder.iterdir()} == {"lock"}, "the second one has written nothing"


@pytest.mark.skipif(sys.platform == "win32", reason="locks otherwise")
def test_a_file_system_without_locks_is_refused_in_words(home, monkeypatch, capsys):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    assert main(["train", "train.max_steps=4", "dataset.dollhouse.images=6", "tracking=none"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "cannot be locked: No locks available" in told and "LORASWEEP_HOME=" in told
    with pytest.raises(InputError, match="cannot be locked"):
        cook(spec({"a": {}}), home / "outputs" / "swept")
    assert not list((home / "outputs").rglob("status.json"))


def test_a_folder_that_holds_another_recipe_is_left_alone(folder):
    run(folder, value=0.3)
    with pytest.raises(ConfigError, match="another recipe"):
        run(folder, value=0.4)


def test_the_folder_of_a_sweep_or_of_runs_is_no_run_folder(folder, home):
    run(folder, value=0.3)
    swept = home / "outputs" / "swept"
    cook(spec({"a": {"value": 0.3}}), swept)
    for place in (folder.parent, swept):
        with pytest.raises(ConfigError, match=r"folder of a sweep, or of several runs  \(a new one, as .*first\)"):
            run(place, value=0.4)
        assert not (place / "status.json").exists()


def test_what_a_sweep_has_cooked_is_taken_and_told(folder, home):
    swept = home / "outputs" / "swept"
    cook(spec({"a": {"value": 0.3}}, seeds=(0, 1)), swept)
    done = run(folder, seed=1, value=0.3, parent={"parent": "swept/0001-a-s1"})
    assert not done.cooked and done.record.reused_from == "swept/0001-a-s1"
    assert done.record.value == 0.3 and "its results are reused" in done.record.reason
    assert (folder / "adapter.safetensors").read_text() == "1"
    assert not (folder.parent / "log.txt").exists(), "nothing was cooked"

    anew = run(folder, seed=1, value=0.3, fresh=True)
    assert anew.cooked and not anew.record.reused_from and anew.record.attempt == 1
    assert read_json(folder / "parent.json") == {"parent": "swept/0001-a-s1"}
    assert (swept / "0001-a-s1" / "metrics.json").exists(), "only links to it were removed"


def test_a_sweep_takes_what_a_single_run_has_cooked(folder, home):
    run(folder, value=0.3, parent={"parent": "x/y"})
    swept = home / "outputs" / "swept"
    result = cook(spec({"a": {"value": 0.3}}, workers=1), swept, fresh=False)
    (trial,) = result.state.trials
    assert trial.reused_from == "train/abc-s0" and trial.value == 0.3 and starts(swept) == []
    assert not (swept / "0000-a-s0" / "parent.json").exists(), "whose variation it is is the run's own"
    assert not (swept / "0000-a-s0" / "lock").exists()


def start(folder: Path) -> Script:
    running = start_script(Path(__file__).parent / "drive_single.py", str(folder), "0.2")
    deadline = time.monotonic() + PATIENCE_S
    while len(_steps(folder)) < 2:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.02)
    return running


def _steps(folder: Path) -> list[str]:
    log = folder / "events.jsonl"
    return [line for line in log.read_text().splitlines() if '"step"' in line] if log.exists() else []


def test_a_killed_run_is_not_running_for_ever_and_goes_on(folder):
    running = start(folder)
    (state,) = read_state(folder.parent).trials
    assert state.status is Status.RUNNING and str(running.pid) in str(holder(folder))
    running.kill()
    running.wait()
    (state,) = read_state(folder.parent).trials
    assert state.status is Status.CANCELLED and "run the same command to continue" in state.reason
    done = run(folder, step_s=0.2)
    assert (done.record.status, done.record.attempt) == (Status.COMPLETED, 2)


@pytest.mark.parametrize(
    "numbers", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM], [signal.SIGHUP, signal.SIGTERM]]
)
def test_a_stop_saves_the_step_and_the_same_command_goes_on(folder, numbers):
    running = start(folder)
    for number in numbers:
        os.killpg(running.pid, number)
    assert running.wait(PATIENCE_S) == 130
    assert RunFolder(folder).record.status is Status.CANCELLED
    saved = read_json(folder / "checkpoints" / "step.json")["step"]
    assert 0 < saved < STEPS and RunFolder(folder).record.step == saved
    done = run(folder, step_s=0.2)
    assert done.record.status is Status.COMPLETED
    assert starts(folder.parent) == [f"start {folder.name} 0", f"start {folder.name} {saved}"]


def test_a_second_ctrl_c_stops_at_once(folder):
    running = start(folder)
    os.killpg(running.pid, signal.SIGINT)
    time.sleep(0.12)
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(PATIENCE_S) == 131, "a program that goes on to its next recipe is stopped, too"
    assert RunFolder(folder).record.status is Status.CANCELLED


def test_fresh_where_it_is_cooked_already_is_told_what_would_cook_it_again(folder, capsys):
    assert main(["train", "--from", "train/abc-s0", "--fresh"]) == 2
    assert "--fresh  says nothing beside --from" in capsys.readouterr().err
