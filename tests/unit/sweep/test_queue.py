"""Order of cooking, and twins."""

from pathlib import Path

import pretend_sweep

from lorasweep.core.records import Status
from lorasweep.core.run_folder import TrialRecord
from lorasweep.sweep.queue import Trial, TrialQueue


def trial(number, *, fingerprint=None, status=Status.WAITING, attempt=0):
    recipe = pretend_sweep.recipe()
    record = TrialRecord(
        number=number,
        arm=f"arm{number}",
        seed=0,
        status=status,
        fingerprint=fingerprint or str(number),
        attempt=attempt,
    )
    return Trial(record=record, recipe=recipe, plan=pretend_sweep.plan(recipe), folder=Path("x"), overrides=())


def drain(queue):
    numbers = []
    while (taken := queue.take()) is not None:
        numbers.append(taken.number)
    return numbers


def test_events_tell_what_a_trial_is_doing():
    cooking = trial(0)
    half = pretend_sweep.STEPS // 2
    seen = []
    for kind, step in (
        ("start", 0),
        ("step", 1),
        ("step", half),
        ("samples", half),
        ("rung", half),
        ("step", 5),
    ):
        metrics = {"train/loss": 1.0 / (step + 1)} if kind == "step" else {"x": float(step)}
        more = {"exposures_per_image": float(step)} if kind == "rung" else {}
        cooking.note({"kind": kind, "step": step, "time": 10.0 + step, "metrics": metrics, **more})
        seen.append(cooking.judging)
    assert seen == [False, False, True, True, False, False]
    assert (cooking.step, cooking.loss, cooking.metrics) == (5, 1 / 6, {"x": half})
    assert cooking.pace.seconds_for(3) == 3.0


def test_begun_trials_come_first_and_finished_ones_not_at_all():
    trials = [
        trial(0),
        trial(1, status=Status.COMPLETED, attempt=1),
        trial(2, status=Status.CANCELLED, attempt=1),
        trial(3, status=Status.RUNNING, attempt=2),
    ]
    assert drain(TrialQueue(trials)) == [2, 3, 0]


def test_a_trial_that_is_put_back_comes_last():
    queue = TrialQueue([trial(0), trial(1), trial(2)])
    queue.put_back(queue.take())
    assert drain(queue) == [1, 2, 0]


def test_of_identical_recipes_one_is_cooked_and_the_other_waits_for_its_end():
    first, twin = trial(0, fingerprint="same"), trial(1, fingerprint="same")
    queue = TrialQueue([first, twin, trial(2)])
    assert drain(queue) == [0, 2]
    assert list(queue.duplicates_ready()) == []
    first.record = trial(0, fingerprint="same", status=Status.COMPLETED).record
    assert list(queue.duplicates_ready()) == [(twin, first)]
    twin.record = first.record
    assert list(queue.duplicates_ready()) == []


def test_a_finished_trial_is_the_original_even_with_a_higher_number():
    done = trial(5, fingerprint="same", status=Status.COMPLETED, attempt=1)
    queue = TrialQueue([trial(0, fingerprint="same"), done])
    assert len(queue) == 0
    assert [(twin.number, original.number) for twin, original in queue.duplicates_ready()] == [(0, 5)]
