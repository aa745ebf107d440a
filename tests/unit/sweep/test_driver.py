"""The engine with real worker processes and a trial module that cooks nothing."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field

import pretend_sweep
import pytest
from optuna.trial import TrialState
from pretend_sweep import STEPS, cook, numbered_arms, spec
from safetensors.numpy import save
from sweep_checks import assert_study_agrees, by_arm, log, starts

from lorasweep.cli import main
from lorasweep.config.sweep_spec import PrunerOptions
from lorasweep.core.errors import ConfigError, InputError, LorasweepError, SweepHeldError
from lorasweep.core.files import read_json, write_json, write_jsonl
from lorasweep.core.records import LauncherOptions, Status, TrainOptions
from lorasweep.core.run_folder import EVENTS_FILE, PRUNING_FILE, RESULT_FILE, STATE_FILE, TENSORS_FILE, SweepFolder
from lorasweep.plan import calibration
from lorasweep.sweep.driver import TIMING_FILE
from lorasweep.sweep.manifest import read_manifest
from lorasweep.sweep.ranking.state import read_state
from lorasweep.sweep.search.study import LONGEST_PATH, STUDY_FILE, SweepStudy
from lorasweep.sweep.workers import pool
from lorasweep.sweep.workers.lock import holder, sweep_lock
from lorasweep.sweep.workers.stop import StopSignal
from lorasweep.trial.judge import score


def test_a_sweep_completes_and_a_second_call_cooks_nothing(tmp_path):
    declared = spec({"a": {"value": 0.3}, "b": {"value": 0.7}}, seeds=(0, 1))
    result = cook(declared, tmp_path)
    assert result.exit_code == 0
    assert result.state.counts == {"COMPLETED": 4}
    assert {(t.arm, t.seed): t.value for t in result.state.trials} == {
        ("a", 0): 0.3,
        ("b", 0): 0.7,
        ("a", 1): 0.3,
        ("b", 1): 0.7,
    }
    assert_study_agrees(tmp_path)
    before = log(tmp_path)
    assert len(starts(tmp_path)) == 4
    assert before[0] == "base" and before.count("base") == 1
    assert cook(declared, tmp_path).exit_code == 0
    assert log(tmp_path) == before
    board = read_json(tmp_path / "leaderboard.json")
    assert [(row["rank"], row["arm"]) for row in board["arms"]] == [(1, "b"), (2, "a")]


def test_a_name_in_other_capitals_is_no_other_sweep_where_these_are_not_told_apart(home, capsys):
    (home / "outputs" / "Mine").mkdir(parents=True)
    (home / "outputs" / "mine").symlink_to("Mine")  # as macOS and Windows have it
    few = ["train.max_steps=4", "dataset.dollhouse.images=6", "tracking=none"]
    assert main(["sweep", "sweep.name=mine", "adapter.dim=2,4", *few]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "`mine` is the folder of sweep `Mine` here" in told and "sweep.name=Mine, or another name" in told
    assert not list((home / "outputs" / "Mine").iterdir())


def test_a_run_folder_of_somebody_else_is_refused_before_any_work(tmp_path, monkeypatch):
    declared = spec({"a": {"ends": "raise"}, "b": {}})
    cook(declared, tmp_path)
    before, theirs, real = log(tmp_path), tmp_path / "0000-a-s0", tempfile.TemporaryFile

    def refused(*arguments, **how):
        if how.get("dir") == theirs:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(*arguments, **how)

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(InputError, match="0000-a-s0.*results cannot be written here: Permission denied"):
        cook(declared, tmp_path)
    assert log(tmp_path) == before


def test_a_run_folder_says_what_happened(tmp_path):
    cook(spec({"a b": {}}), tmp_path)
    folder = tmp_path / "0000-a-b-s0"
    status = read_json(folder / "status.json")
    assert {"arm": "a b", "seed": 0, "number": 0, "status": "COMPLETED"}.items() <= status.items()
    assert (status["step"], status["steps"], status["attempt"], status["value"]) == (STEPS, STEPS, 1, 0.5)
    assert status["started_at"] <= status["ended_at"] <= time.time()
    assert read_json(folder / "plan.json")["steps"] == STEPS
    assert "max_steps: 8" in (folder / "recipe.yaml").read_text()


def test_identical_recipes_are_cooked_once(tmp_path):
    result = cook(spec({"a": {"value": 0.3}, "twin": {"value": 0.3}, "b": {"value": 0.4}}), tmp_path)
    assert result.state.counts == {"COMPLETED": 3}
    assert len(starts(tmp_path)) == 2
    twin = by_arm(result.state)["twin"]
    assert (twin.value, twin.attempt) == (0.3, 0)
    assert "0000-a-s0" in twin.reason
    assert twin.metrics == by_arm(result.state)["a"].metrics
    assert (tmp_path / "0001-twin-s0" / "adapter.safetensors").exists()
    assert_study_agrees(tmp_path)


def test_a_killed_worker_costs_only_the_steps_since_the_checkpoint(tmp_path):
    result = cook(spec({"a": {"die_once": True}, "b": {}}), tmp_path)
    assert result.exit_code == 0
    assert by_arm(result.state)["a"].attempt == 2
    assert [line for line in starts(tmp_path) if "-a-" in line] == ["start 0000-a-s0 0", "start 0000-a-s0 4"]
    attempts = [t for t in SweepStudy(tmp_path, read_manifest(tmp_path)).trials() if t.params["arm"] == "a"]
    assert [t.state for t in attempts] == [TrialState.FAIL, TrialState.COMPLETE]
    assert attempts[1].user_attrs["retry_of"] == attempts[0].number


def test_what_begins_anew_reports_each_rung_at_its_own_exposures(tmp_path):
    assert cook(spec({"a": {"dies_in": "with its checkpoints"}}), tmp_path).exit_code == 0
    assert starts(tmp_path) == ["start 0000-a-s0 0"] * 2
    first, second = SweepStudy(tmp_path, read_manifest(tmp_path)).trials()
    assert first.intermediate_values == second.intermediate_values == {STEPS // 2: 0.25, STEPS: 0.5}


def test_of_rungs_less_than_an_exposure_apart_the_first_is_told_also_when_the_study_is_lost(tmp_path, monkeypatch):
    whole = pretend_sweep.plan
    monkeypatch.setattr(pretend_sweep, "plan", lambda each: dataclasses.replace(whole(each), exposures_per_image=0.8))
    for _ in range(2):
        cook(spec({"a": {}}), tmp_path)
        (trial,) = SweepStudy(tmp_path, read_manifest(tmp_path)).trials()
        assert trial.intermediate_values == {1: 0.25}
        (tmp_path / STUDY_FILE).unlink()


def test_every_fate_has_its_status_and_the_others_complete(tmp_path):
    arms = {
        "fine": {},
        "dies": {"ends": "die"},
        "raises": {"ends": "raise"},
        "nan": {"ends": "DIVERGED"},
        "memory": {"ends": "memory"},
        "invalid": {"ends": "invalid"},
        "unmeasured": {"unmeasured": True},
    }
    result = cook(spec(arms, workers=3), tmp_path)
    assert result.exit_code == 1
    ended = by_arm(result.state)
    assert {arm: trial.status for arm, trial in ended.items()} == {
        "fine": Status.COMPLETED,
        "dies": Status.CRASHED,
        "raises": Status.CRASHED,
        "nan": Status.DIVERGED,
        "memory": Status.OUT_OF_MEMORY,
        "invalid": Status.INVALID,
        "unmeasured": Status.COMPLETED,
    }
    attempts = {arm: trial.attempt for arm, trial in ended.items()}
    assert attempts == {**dict.fromkeys(arms, 1), "dies": 3, "raises": 3}
    assert "SIGKILL" in ended["dies"].reason
    assert ended["raises"].reason == "ValueError: no luck at step 1 (3 crashes)"
    assert "Traceback" in (tmp_path / "0002-raises-s0" / "error.txt").read_text()
    assert "adapter.dim" in ended["invalid"].reason
    assert ended["unmeasured"].value is None and "could not be measured" in ended["unmeasured"].reason
    assert_study_agrees(tmp_path)
    # The same command tries what crashed again, and nothing else.
    before = len(log(tmp_path))
    result = cook(spec(arms), tmp_path)
    again = log(tmp_path)[before:]
    assert sorted(again) == 3 * ["start 0001-dies-s0 0"] + 3 * ["start 0002-raises-s0 0"]
    assert by_arm(result.state)["dies"].status is Status.CRASHED
    assert_study_agrees(tmp_path)


def test_trials_that_fail_alike_stop_the_sweep(tmp_path):
    arms = numbered_arms(6, ends="invalid") | {"later": {}}
    result = cook(spec(arms, workers=1), tmp_path)
    assert "3 trials in a row ended INVALID alike" in result.halted
    assert result.exit_code == 1
    assert result.state.counts == {"WAITING": 4, "INVALID": 3}


def test_a_trial_module_that_cannot_start_is_explained(tmp_path):
    from lorasweep.sweep.driver import run_sweep

    declared = spec({"a": {}}, workers=1)
    result = run_sweep(
        declared,
        pretend_sweep.plans(declared),
        folder=tmp_path,
        trial_module="no_such_module",
        fresh=True,  # another test's sweep beside this one may have cooked the same
    )
    assert "No module named 'no_such_module'" in result.halted
    assert result.state.counts == {"WAITING": 1}


def test_two_drivers_cannot_share_a_sweep(tmp_path):
    with sweep_lock(tmp_path):
        assert f"process {os.getpid()}" in holder(tmp_path)
        with pytest.raises(SweepHeldError, match=f"process {os.getpid()}"):
            cook(spec({"a": {}}), tmp_path)
    assert holder(tmp_path) is None


@dataclass
class StopAtStep:
    """Asks to stop once the first trial has come so far, and enough of them have begun."""

    step: int
    times: int
    begun: int = 1
    signal: StopSignal = field(default_factory=StopSignal)

    def __call__(self, state):
        begun = sum(trial.attempt > 0 for trial in state.trials)
        if state.trials[0].step >= self.step and begun >= self.begun and not self.signal.requests:
            for _ in range(self.times):
                self.signal.request()


def test_stopping_gently_saves_and_the_same_call_goes_on(tmp_path):
    declared = spec(numbered_arms(3, step_s=0.1), workers=1)
    stop = StopAtStep(step=1, times=1)
    result = cook(declared, tmp_path, on_change=stop, stop=stop.signal)
    assert result.exit_code == 130
    assert result.state.counts == {"WAITING": 2, "CANCELLED": 1}
    saved = read_json(tmp_path / "0000-arm0-s0" / "checkpoints" / "step.json")["step"]
    assert 0 < saved < STEPS
    result = cook(declared, tmp_path)
    assert result.state.counts == {"COMPLETED": 3}
    assert starts(tmp_path)[:2] == ["start 0000-arm0-s0 0", f"start 0000-arm0-s0 {saved}"]
    assert by_arm(result.state)["arm0"].attempt == 2
    assert_study_agrees(tmp_path)


def test_stopping_twice_does_not_wait_for_the_step(tmp_path):
    declared = spec({"a": {"step_s": 3.0}, "b": {"step_s": 300.0}}, workers=2)
    stop = StopAtStep(step=1, times=2, begun=2)
    began = time.monotonic()
    result = cook(declared, tmp_path, on_change=stop, stop=stop.signal)
    assert time.monotonic() - began < 200  # it would be 300 and more
    assert result.exit_code == 130
    assert result.state.counts == {"CANCELLED": 2}


def stopped():
    stop = StopSignal()
    stop.request()
    return stop


def judged_by_others(run, **status):
    """Leave a run as if other limits than today's had scored it; returns what today's say of its rungs."""
    result, measured = read_json(run.path / RESULT_FILE), {"prior_drift/class": 0.3, "generalisation/held_out": 0.8}
    write_json(run.path / RESULT_FILE, result | {"verdict": result["verdict"] | {"calibration": "others"}})
    then = {"overcook/score": 0.9, "overcook/utility": 0.05, "overcook/fidelity": 0.5, **measured}
    rows = [row | {"metrics": then} if row["kind"] == "rung" else row for row in run.events()]
    write_jsonl(run.path / EVENTS_FILE, rows)
    kept = b"" if status.get("status") == "PRUNED" else save({})  # which pretend metrics cannot be written for
    for rung in run.rungs():
        run.weights(rung["step"]).parent.mkdir(parents=True)
        run.weights(rung["step"]).write_bytes(kept)
    write_json(run.weights(STEPS).with_name(STATE_FILE), {"fingerprint": ""})
    run.weights(STEPS).with_name(TENSORS_FILE).write_bytes(save({}))
    write_json(run.path / "status.json", run.status | status)
    return score.summarise(measured, calibration.of_today(pretend_sweep.recipe())).values["overcook/utility"]


def test_what_waits_to_be_judged_anew_is_no_end_and_stays_as_it_was_until_then(tmp_path):
    declared = spec({"a": {}, "b": {"tag": 1}})
    cook(declared, tmp_path)
    runs = SweepFolder(tmp_path).runs
    now = [judged_by_others(run, status=status) for run, status in zip(runs, ("COMPLETED", "PRUNED"), strict=True)]
    before = [(run.path / EVENTS_FILE).read_bytes() for run in runs]
    result = cook(declared, tmp_path, stop=stopped())
    assert (result.interrupted, result.exit_code) == (True, 130)
    assert [(run.path / EVENTS_FILE).read_bytes() for run in runs] == before
    (pruned,) = (trial for trial in SweepStudy(tmp_path, read_manifest(tmp_path)).trials())
    assert pruned.intermediate_values == {STEPS // 2: now[1], STEPS: now[1]}, "scores of one calibration are compared"
    result = cook(declared, tmp_path)
    assert result.exit_code == 0 and starts(tmp_path)[2:] == [f"start {runs[0].path.name} {STEPS}"]


def test_what_cannot_go_on_elsewhere_is_not_judged_anew(tmp_path, caplog):
    declared = spec({"a": {}})
    cook(declared, tmp_path)
    judged_by_others(*SweepFolder(tmp_path).runs)
    assert cook(declared, tmp_path, stop=stopped()).exit_code == 130
    elsewhere = LauncherOptions(name="ssh", options={"ship": "results"})
    arms = tuple(
        dataclasses.replace(arm, recipe=dataclasses.replace(arm.recipe, launcher=elsewhere)) for arm in declared.arms
    )
    assert cook(dataclasses.replace(declared, arms=arms), tmp_path, stop=stopped()).exit_code == 0
    assert "checkpoints are gone or damaged, or do not travel (launcher.ship): 0000-a-s0" in caplog.text


@pytest.mark.parametrize("damage", [None, b"rubbish"])
def test_a_lost_study_is_rebuilt_from_the_run_folders(tmp_path, damage):
    declared = spec({"a": {"value": 0.3}, "nan": {"ends": "DIVERGED"}})
    cook(declared, tmp_path)
    (tmp_path / STUDY_FILE).unlink()
    if damage:
        (tmp_path / STUDY_FILE).write_bytes(damage)
    before = log(tmp_path)
    assert cook(declared, tmp_path).exit_code == 0
    assert log(tmp_path) == before
    assert_study_agrees(tmp_path)


def test_a_study_that_is_deleted_meanwhile_is_rebuilt_and_nothing_is_cooked_twice(tmp_path):
    declared = spec({"a": {}, "dies": {"die_once": True}, "twin": {}, "nan": {"ends": "DIVERGED"}, "last": {"tag": 1}})
    result = cook(declared, tmp_path, on_trial_end=lambda: (tmp_path / STUDY_FILE).unlink(missing_ok=True))
    assert result.state.counts == {"COMPLETED": 4, "DIVERGED": 1}
    assert len(starts(tmp_path)) == 5, "each recipe once, and the one that died again"
    (tmp_path / STUDY_FILE).unlink(missing_ok=True)
    before = log(tmp_path)
    cook(declared, tmp_path)
    assert log(tmp_path) == before
    assert_study_agrees(tmp_path)


def test_an_end_that_nobody_noted_is_noted_at_the_next_start(tmp_path):
    from lorasweep.core.files import write_json

    declared = spec({"a": {"value": 0.3}})
    cook(declared, tmp_path)
    path = tmp_path / "0000-a-s0" / "status.json"
    write_json(path, {**read_json(path), "status": "RUNNING", "value": None, "ended_at": None})
    assert read_state(tmp_path).counts == {"CANCELLED": 1}
    before = log(tmp_path)
    result = cook(declared, tmp_path)
    assert log(tmp_path) == before
    assert (result.state.counts, result.state.trials[0].value) == ({"COMPLETED": 1}, 0.3)


def test_a_changed_sweep_is_refused_and_an_extended_one_goes_on(tmp_path):
    cook(spec({"a": {"value": 0.3}}), tmp_path)
    with pytest.raises(ConfigError, match="was 0.3 when cooked, is now 0.4"):
        cook(spec({"a": {"value": 0.4}}), tmp_path)
    wider = spec({"a": {"value": 0.3}, "b": {"value": 0.4}})
    with pytest.raises(ConfigError, match="extend adds it"):
        cook(wider, tmp_path)
    result = cook(wider, tmp_path, extend=True)
    assert result.state.counts == {"COMPLETED": 2}
    assert len(starts(tmp_path)) == 2
    assert_study_agrees(tmp_path)


def test_a_run_folder_of_something_else_is_never_taken_for_a_result(tmp_path):
    cook(spec({"a": {"value": 0.3}}), tmp_path)
    (tmp_path / "sweep.yaml").unlink()
    with pytest.raises(ConfigError, match="0000-a-s0.*another recipe"):
        cook(spec({"a": {"value": 0.4}}), tmp_path)
    assert cook(spec({"a": {"value": 0.3}}), tmp_path).exit_code == 0
    assert len(starts(tmp_path)) == 1


def test_an_output_folder_that_cannot_be_is_an_input_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="LORASWEEP_HOME"):
        cook(spec({"a": {}}), tmp_path / "file" / "sweep")


@pytest.mark.parametrize(("gpus", "sharers"), [(["5", "GPU-7"], 1), (["5"], 2)])
def test_each_worker_has_its_gpu_or_its_share_of_it_and_its_threads(tmp_path, monkeypatch, gpus, sharers):
    declared = spec(numbered_arms(2, step_s=0.05))
    on_gpu = [
        dataclasses.replace(arm, recipe=dataclasses.replace(arm.recipe, train=TrainOptions(max_steps=STEPS)))
        for arm in declared.arms
    ]
    declared = dataclasses.replace(declared, arms=tuple(on_gpu), launcher=LauncherOptions(workers=2, threads=3))
    monkeypatch.setattr("lorasweep.sweep.workers.pool.visible_gpus", lambda: gpus)
    cook(declared, tmp_path)
    seen = [read_json(path) for path in sorted(tmp_path.glob("*/worker.json"))]
    assert sorted(each["CUDA_VISIBLE_DEVICES"] for each in seen) == (gpus * 2)[:2]
    assert {(each["sharers"], each["slots"]) for each in seen} == {(sharers, 1)}
    assert {each["OMP_NUM_THREADS"] for each in seen} == {"3"}
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None


def test_visible_gpus_follow_the_environment(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-3")
    assert pool.visible_gpus() == ["2", "GPU-3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pool.visible_gpus() == []


@dataclass
class Recorder:
    """A mirror that only notes what it is asked."""

    calls: list[str] = field(default_factory=list)
    ok: bool = False
    message: str = "the server is down; run: lorasweep sync"

    def start(self):
        self.calls.append("start")

    def finish(self, timeout_s):
        self.calls.append(f"finish {timeout_s}")
        return self


def test_the_mirror_follows_and_a_failing_hook_costs_nothing(tmp_path):
    mirror, notes = Recorder(), []

    def hook():
        raise OSError("no space for the sheet")

    result = cook(
        spec({"a": {}}),
        tmp_path,
        mirror=mirror,
        on_trial_end=hook,
        on_change=lambda state: notes.append(state.notes),
    )
    assert result.exit_code == 0
    assert (result.mirrored.ok, result.mirrored.message) == (False, mirror.message)
    assert mirror.calls == ["start", "finish 20.0"]
    assert notes[-1] == ("after trial 0: OSError: no space for the sheet",)


def test_what_the_report_tells_is_written_before_it(tmp_path):
    pruned = dataclasses.replace(spec({"a": {}}), pruner=PrunerOptions(name="median"))
    seen = []

    def report():
        seen.extend(read_json(tmp_path / name) for name in (TIMING_FILE, PRUNING_FILE))

    assert cook(pruned, tmp_path, on_end=report).exit_code == 0
    timing, pruning = seen
    assert timing["done"] and timing["real_s"] > 0 and pruning["spent_steps"] > 0


def test_the_driver_imports_no_torch():
    code = "import sys, lorasweep.sweep.driver, lorasweep.sweep.ranking.table; assert 'torch' not in sys.modules"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


@pytest.mark.parametrize("too_long", [False, True])
def test_a_path_that_sqlite_cannot_open_is_refused_before_any_work(tmp_path, too_long):
    room = LONGEST_PATH + too_long - len(f"{tmp_path.resolve()}//pretend/study.db")
    folder = tmp_path / ("a" * 99) / ("a" * 99) / ("b" * (room - 200))
    if too_long:
        with pytest.raises(InputError, match="SQLite takes"):
            cook(spec(numbered_arms(1)), folder / "pretend")
        assert not (folder / "pretend" / "log.txt").exists()
    else:
        assert cook(spec(numbered_arms(1)), folder / "pretend").exit_code == 0


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, KeyboardInterrupt])
def test_what_hears_of_changes_may_fail_and_the_sweep_goes_on_later(tmp_path, kind):
    def deaf(state):
        if state.counts.get("RUNNING"):
            raise kind("the caller's own")

    declared, mirror, calls = spec(numbered_arms(2, step_s=0.1), workers=1), Recorder(), []
    with pytest.raises(kind, match="the caller's own"):
        cook(declared, tmp_path, on_change=deaf, on_end=lambda: calls.append("report"), mirror=mirror)
    assert SweepFolder(tmp_path).run(0, "arm0", 0).record.status is Status.CANCELLED
    assert calls == ["report"] and mirror.calls == ["start", "finish 20.0"]
    assert cook(declared, tmp_path).state.counts == {"COMPLETED": 2}


@pytest.mark.parametrize("take", [shutil.rmtree, lambda folder: folder.rename(folder.with_name("moved"))])
def test_a_folder_that_is_taken_away_meanwhile_is_told(tmp_path, take):
    folder, taken = tmp_path / "sweep", []

    def meanwhile(state):
        if not taken and state.counts.get("RUNNING"):
            taken.append(take(folder))

    with pytest.raises(LorasweepError, match="sweep was moved or removed while it was being cooked"):
        cook(spec(numbered_arms(4)), folder, on_change=meanwhile)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.with_name("moved").exists():
        folder.with_name("moved").rename(folder)
    assert cook(spec(numbered_arms(4)), folder).state.counts == {"COMPLETED": 4}
