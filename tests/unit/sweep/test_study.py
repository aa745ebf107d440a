"""What Optuna is told, and how study.db is repaired from the run folders."""

import dataclasses
import sqlite3

import optuna
import pretend_sweep
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from lorasweep.core.records import Status
from lorasweep.core.run_folder import SET_ASIDE_FILE, STUDY_FILE, TrialRecord
from lorasweep.sweep.manifest import declare, write_manifest
from lorasweep.sweep.search.study import WRITTEN_FOR, SweepStudy, meaning


def manifest(count=3):
    spec = pretend_sweep.spec(pretend_sweep.numbered_arms(count))
    return declare(spec, pretend_sweep.plans(spec))


def record(number, status, *, attempt=1, value=None):
    return TrialRecord(
        number=number,
        arm=f"arm{number}",
        seed=0,
        status=status,
        fingerprint=str(number),
        attempt=attempt,
        value=value,
    )


@pytest.mark.parametrize(
    ("status", "value", "state", "told", "constraints"),
    [
        (Status.COMPLETED, 0.7, TrialState.COMPLETE, (0.7,), {}),
        (Status.COMPLETED, 0.0, TrialState.COMPLETE, (0.0,), {}),
        (Status.COMPLETED, None, TrialState.FAIL, None, {}),
        (Status.PRUNED, 0.7, TrialState.PRUNED, None, {}),
        (Status.DIVERGED, None, TrialState.COMPLETE, (-1.0,), {"diverged": 1.0}),
        (Status.OUT_OF_MEMORY, None, TrialState.COMPLETE, (-1.0,), {"out_of_memory": 1.0}),
        (Status.CRASHED, None, TrialState.FAIL, None, {}),
        (Status.INVALID, None, TrialState.COMPLETE, (-1.0,), {"invalid": 1.0}),
        (Status.CANCELLED, None, TrialState.FAIL, None, {}),
    ],
)
def test_the_status_table(tmp_path, status, value, state, told, constraints):
    means = meaning(record(0, status, value=value), dataclasses.replace(manifest(), worst=-1.0))
    assert (means.state, means.values, means.constraints) == (state, told, constraints)


@pytest.mark.parametrize("status", [Status.WAITING, Status.RUNNING])
def test_what_has_not_ended_means_nothing_yet(status):
    with pytest.raises(ValueError, match="not an end"):
        meaning(record(0, status), manifest())


def test_a_diverged_trial_is_told_as_infeasible_and_never_best(tmp_path):
    study = SweepStudy(tmp_path, manifest())
    study.begin(record(0, Status.RUNNING))
    study.begin(record(1, Status.RUNNING))
    study.report(1, 4, -3.0)
    study.end(record(0, Status.DIVERGED))
    study.end(record(1, Status.COMPLETED, value=-5.0))
    diverged, completed = study.trials()
    assert (diverged.value, diverged.constraints) == (0.0, {"diverged": 1.0})
    assert (completed.value, completed.intermediate_values) == (-5.0, {4: -3.0})
    assert completed.params == {"arm": "arm1"}
    assert completed.user_attrs["seed"] == 0
    assert completed.user_attrs["run_folder"] == "0001-arm1-s0"


@pytest.mark.parametrize("name", ["what?", "50%20off", "ümläut & #1"])
def test_the_folder_may_be_called_anything(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    SweepStudy(folder, manifest()).begin(record(0, Status.RUNNING))
    assert len(SweepStudy(folder, manifest()).trials()) == 1
    assert (folder / STUDY_FILE).exists() and list(tmp_path.iterdir()) == [folder], "nothing beside it"


def test_a_retry_points_at_the_attempt_before_it(tmp_path):
    study = SweepStudy(tmp_path, manifest())
    study.begin(record(1, Status.RUNNING))
    study.begin(record(0, Status.RUNNING))
    study.end(record(0, Status.CRASHED))
    study.begin(record(0, Status.RUNNING, attempt=2))
    other, first, second = study.trials()
    assert [first.state, second.state] == [TrialState.FAIL, TrialState.RUNNING]
    assert second.user_attrs["retry_of"] == first.number
    assert "retry_of" not in other.user_attrs | first.user_attrs


def test_a_dead_drivers_trials_are_told_from_the_run_folders(tmp_path):
    study = SweepStudy(tmp_path, manifest())
    for number in range(3):
        study.begin(record(number, Status.RUNNING))
    # Meanwhile, on disk: 0 completed, 1 diverged, 2 is in the middle of it. A new driver starts.
    found = [record(0, Status.COMPLETED, value=0.4), record(1, Status.DIVERGED), record(2, Status.RUNNING)]
    study = SweepStudy(tmp_path, manifest())
    study.reconcile(lambda: [(each, {}) for each in found])
    states = [(t.state, t.value, t.constraints) for t in study.trials()]
    assert states == [
        *[(TrialState.FAIL, None, {})] * 3,  # the attempts of the dead driver
        (TrialState.COMPLETE, 0.4, {}),
        (TrialState.COMPLETE, 0.0, {"diverged": 1.0}),
    ]
    study.begin(record(2, Status.RUNNING, attempt=2))
    assert study.trials()[-1].user_attrs["retry_of"] == 2


def test_reconciling_twice_adds_nothing(tmp_path):
    found = [
        (record(0, Status.COMPLETED, value=0.4), {}),
        (record(1, Status.CRASHED, attempt=3), {}),
    ]
    SweepStudy(tmp_path, manifest()).reconcile(lambda: found)
    study = SweepStudy(tmp_path, manifest())
    study.reconcile(lambda: found)
    assert [(t.state, t.user_attrs["attempt"]) for t in study.trials()] == [
        (TrialState.COMPLETE, 1),
        (TrialState.FAIL, 3),
    ]


def test_a_trial_enqueued_but_never_asked_for_is_cleared(tmp_path):
    study = SweepStudy(tmp_path, manifest())
    study._study.enqueue_trial({"arm": "arm0"}, user_attrs={"number": 0, "attempt": 1})
    study = SweepStudy(tmp_path, manifest())
    study.reconcile(tuple)
    assert [t.state for t in study.trials()] == [TrialState.FAIL]
    study.begin(record(1, Status.RUNNING))
    assert study.trials()[1].params == {"arm": "arm1"}


def test_a_study_written_by_enqueue_and_ask_goes_on(tmp_path):
    """As files from before known points were added at once are."""
    former = SweepStudy(tmp_path, manifest())._study
    arms = CategoricalDistribution(("arm0", "arm1", "arm2"))
    for number in range(2):
        attributes = {"number": number, "attempt": 1, "status": "COMPLETED"}
        former.enqueue_trial({"arm": f"arm{number}"}, user_attrs=attributes)
        former.tell(former.ask({"arm": arms}), 0.4)

    study = SweepStudy(tmp_path, manifest())
    done = [(record(n, Status.COMPLETED, value=0.4), {}) for n in range(2)]
    study.reconcile(lambda: done)
    study.begin(record(2, Status.RUNNING))
    study.end(record(2, Status.COMPLETED, value=0.6))

    assert [t.value for t in study.trials()] == [0.4, 0.4, 0.6]
    assert not (tmp_path / SET_ASIDE_FILE).exists()
    assert optuna.load_study(study_name="pretend", storage=f"sqlite:///{tmp_path / STUDY_FILE}").best_params == {
        "arm": "arm2"
    }


def test_the_arms_names_are_kept_once_and_not_once_for_each_trial(tmp_path):
    study = SweepStudy(tmp_path, manifest(3))
    for number in range(3):
        study.begin(record(number, Status.RUNNING))
        study.end(record(number, Status.COMPLETED, value=0.5))
    for opened in (study, SweepStudy(tmp_path, manifest(3))):
        axes = {id(t.distributions["arm"]) for t in opened._study.get_trials(deepcopy=False)}
        assert len(axes) == 1


@pytest.mark.parametrize("damage", [b"not a database", b"SQLite format 3\x00" + b"\x00" * 4000, b""])
def test_a_corrupt_study_is_set_aside_and_told_again(tmp_path, damage):
    (tmp_path / STUDY_FILE).write_bytes(damage)
    study = SweepStudy(tmp_path, manifest())
    study.reconcile(lambda: [(record(0, Status.COMPLETED, value=0.4), {})])
    assert [t.value for t in SweepStudy(tmp_path, manifest()).trials()] == [0.4]
    if damage:
        assert (tmp_path / SET_ASIDE_FILE).read_bytes() == damage


def gone(path):
    path.unlink()


def garbage(path):
    path.write_bytes(b"not a database" * 1000)


def deleted_in_a_dashboard(path):
    optuna.delete_study(study_name="pretend", storage=f"sqlite:///{path}")


def another(path):
    path.with_name("copy").write_bytes(path.read_bytes())
    path.with_name("copy").replace(path)


@pytest.mark.parametrize(
    ("damage", "deed"),
    [
        *[(gone, deed) for deed in ("begin", "report", "end", "add", "retry")],
        *[(damage, deed) for damage in (garbage, deleted_in_a_dashboard, another) for deed in ("begin", "end")],
    ],
)
def test_a_study_that_is_damaged_while_in_use_is_told_again(tmp_path, damage, deed):
    """Trial 0 has ended, 1 runs and has reported, 2 was asked for; then the file goes, and something is told."""
    records = {number: record(number, Status.RUNNING) for number in range(2)}
    rungs = {0: {}, 1: {4: 0.1}}
    write_manifest(tmp_path, manifest(4))
    study = SweepStudy(tmp_path, manifest(4))
    study.reconcile(lambda: [(each, rungs.get(number, {})) for number, each in records.items()])
    study.begin(records[0])
    study.begin(records[1])
    study.report(1, 4, 0.1)
    records[0] = record(0, Status.COMPLETED, value=0.4)
    study.end(records[0])
    damage(tmp_path / STUDY_FILE)

    if deed == "begin":
        records[2] = record(2, Status.RUNNING)
        study.begin(records[2])
    if deed == "report":
        rungs[1] = {4: 0.1, 8: 0.2}
        study.report(1, 8, 0.2)
    if deed == "end":
        records[1] = record(1, Status.DIVERGED)
        study.end(records[1])
    if deed == "add":
        records[3] = record(3, Status.COMPLETED, value=0.7)
        study.add(records[3])
    if deed == "retry":
        records[1] = record(1, Status.WAITING)
        study.end(record(1, Status.CRASHED))
        records[1] = record(1, Status.RUNNING, attempt=2)
        study.begin(records[1])

    last = {trial.user_attrs["number"]: trial for trial in SweepStudy(tmp_path, manifest(4)).trials()}
    assert last.keys() == records.keys()
    for number, each in records.items():
        expected = TrialState.RUNNING if each.status is Status.RUNNING else meaning(each, manifest()).state
        assert (last[number].state, last[number].user_attrs["attempt"]) == (expected, each.attempt)
        assert last[number].params == {"arm": each.arm}
    assert last[0].value == 0.4
    assert last[1].intermediate_values == ({} if deed == "retry" else rungs[1])
    for each in records.values():  # and it goes on
        if each.status is Status.RUNNING:
            study.end(dataclasses.replace(each, status=Status.COMPLETED, value=0.9))
    ended = {trial.user_attrs["number"]: trial.value for trial in study.trials() if trial.state.is_finished()}
    assert ended == {
        number: 0.9 if each.status is Status.RUNNING else last[number].value for number, each in records.items()
    }


def test_a_study_of_another_schema_is_set_aside(tmp_path):
    with sqlite3.connect(tmp_path / STUDY_FILE) as database:
        database.execute("create table studies (other text)")
    SweepStudy(tmp_path, manifest()).reconcile(tuple)
    assert (tmp_path / SET_ASIDE_FILE).exists()


def test_a_changed_goal_gets_a_study_of_its_direction(tmp_path):
    SweepStudy(tmp_path, manifest())
    spec = pretend_sweep.spec(pretend_sweep.numbered_arms(3), goal="minimize")
    study = SweepStudy(tmp_path, declare(spec, pretend_sweep.plans(spec)))
    assert study._study.direction.name == "MINIMIZE"


def test_an_extended_sweep_gets_new_choices_and_keeps_its_results(tmp_path):
    done = (record(0, Status.COMPLETED, value=0.4), {})
    SweepStudy(tmp_path, manifest(1)).reconcile(lambda: [done])
    study = SweepStudy(tmp_path, manifest(3))
    study.reconcile(lambda: [done])
    study.begin(record(2, Status.RUNNING))
    assert [(t.params["arm"], t.state) for t in study.trials()] == [
        ("arm0", TrialState.COMPLETE),
        ("arm2", TrialState.RUNNING),
    ]


def test_optuna_is_the_one_that_the_storage_was_written_for() -> None:
    """Another one: see that it still reads trials by this method, then say so in WRITTEN_FOR."""
    assert optuna.__version__.startswith(f"{WRITTEN_FOR}.")
    assert hasattr(RDBStorage, "_build_frozen_trial_from_trial_model")
