"""What the end of an attempt means for its trial."""

import pytest

from lorasweep.core.records import Outcome, Status
from lorasweep.core.run_folder import TrialRecord
from lorasweep.sweep.retry import FailureWatch, NodeWatch, next_record

METRIC = "overcook/utility"


def record(**changes):
    return TrialRecord(
        **{
            "number": 0,
            "arm": "a",
            "seed": 0,
            "status": Status.RUNNING,
            "fingerprint": "f",
            "step": 4,
            "steps": 8,
            **changes,
        }
    )


def end(before, **outcome):
    return next_record(before, Outcome(**{"step": 8, **outcome}), metric=METRIC, now_s=100.0)


def test_completed_takes_the_sweeps_metric():
    done = end(record(), status=Status.COMPLETED, metrics={METRIC: 0.5, "burn/score": 2.0})
    assert (done.status, done.value, done.step, done.ended_at, done.reason) == (
        Status.COMPLETED,
        0.5,
        8,
        100.0,
        "",
    )


@pytest.mark.parametrize("metrics", [{}, {METRIC: float("nan")}])
def test_completed_without_the_metric_has_no_value_and_says_why(metrics):
    done = end(record(), status=Status.COMPLETED, metrics=metrics, missing={METRIC: "no reader"})
    assert done.status is Status.COMPLETED
    assert done.value is None
    assert done.reason == "overcook/utility could not be measured: no reader"


def test_diverged_has_no_value_even_if_an_earlier_rung_had_one():
    assert end(record(), status=Status.DIVERGED, metrics={METRIC: 0.9}).value is None


def test_a_crash_is_repeated_twice_and_then_final():
    first = end(record(attempt=1), status=Status.CRASHED, step=0, reason="killed")
    assert (first.status, first.crashes, first.step, first.ended_at) == (Status.WAITING, 1, 4, None)
    assert "queued again" in first.reason
    second = end(first, status=Status.CRASHED, step=0, reason="killed")
    third = end(second, status=Status.CRASHED, step=0, reason="killed")
    assert (second.status, third.status, third.crashes) == (Status.WAITING, Status.CRASHED, 3)
    assert third.reason == "killed (3 crashes)"


@pytest.mark.parametrize("status", [Status.INVALID, Status.OUT_OF_MEMORY, Status.DIVERGED, Status.PRUNED])
def test_other_ends_are_final_at_once(status):
    assert end(record(), status=status).status is status


def test_three_alike_in_a_row_stop_the_sweep_and_numbers_do_not_tell_them_apart():
    watch = FailureWatch()
    said = [watch.saw(record(status=Status.OUT_OF_MEMORY, reason=f"wanted {size} MiB")) for size in (10, 200, 3)]
    assert said[:2] == ["", ""]
    assert "3 trials in a row ended OUT_OF_MEMORY alike: wanted 3 MiB" in said[2]


def test_a_success_or_another_failure_between_resets_the_watch():
    watch = FailureWatch()
    bad = record(status=Status.INVALID, reason="x")
    ends = [
        bad,
        bad,
        record(status=Status.COMPLETED),
        bad,
        bad,
        record(status=Status.CRASHED, reason="x"),
        bad,
    ]
    assert [watch.saw(each) for each in ends] == [""] * 7


def test_what_crashes_alike_on_two_nodes_is_no_nodes_fault():
    watch = NodeWatch()
    assert not watch.crashed("a", 1, "CUDA error") and not watch.crashed("a", 1, "CUDA error"), "one trial, twice"
    assert watch.crashed("a", 2, "CUDA error"), "two trials there, and nowhere else"
    assert not watch.crashed("b", 3, "CUDA error") and not watch.crashed("b", 4, "CUDA error")
    watch.fine("a", done=True)
    assert watch.crashed("b", 4, "CUDA error"), "a has shown that it can"
