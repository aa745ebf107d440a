"""Ranking."""

import dataclasses

import pytest

from lorasweep.core.records import Status
from lorasweep.sweep.ranking.leaderboard import columns, document, rank_arms, rank_trials, standing
from lorasweep.sweep.ranking.noise import rank
from lorasweep.sweep.ranking.state import SweepState, TrialState


def trial(number, arm, value, *, seed=0, status=Status.COMPLETED, metrics=None, reason=""):
    return TrialState(
        number=number,
        arm=arm,
        seed=seed,
        status=status,
        step=8,
        steps=8,
        attempt=1,
        run_folder=f"/x/{number:04d}",
        value=value,
        metrics=metrics or {},
        reason=reason,
    )


def sweep(*trials, goal="maximize"):
    return SweepState(name="s", question="?", metric="m", goal=goal, folder="/x", trials=trials)


@pytest.mark.parametrize(("goal", "order"), [("maximize", ["b", "a", "c"]), ("minimize", ["c", "a", "b"])])
def test_order_follows_the_goal(goal, order):
    state = sweep(trial(0, "a", 0.5), trial(1, "b", 0.9), trial(2, "c", 0.0), goal=goal)
    assert [row.arm for row in rank_arms(state)] == order


def test_arms_are_means_over_seeds_with_their_spread():
    state = sweep(
        trial(0, "a", 0.2, metrics={"x": 1.0}),
        trial(1, "b", 0.5),
        trial(2, "a", 0.6, seed=1, metrics={"x": 3.0}),
    )
    best, second = rank_arms(state)
    assert (best.arm, best.spread, best.seeds) == ("b", None, 1)
    assert (second.value, second.seeds, second.metrics) == (pytest.approx(0.4), 2, {"x": 2.0})
    assert second.spread == pytest.approx(0.2 * 2**0.5)


def test_without_a_value_there_is_no_rank_but_a_reason():
    state = sweep(
        trial(0, "crashed", None, status=Status.CRASHED, reason="killed"),
        trial(1, "pruned", 0.99, status=Status.PRUNED),
        trial(2, "fine", 0.1),
    )
    assert [(row.rank, row.arm) for row in rank_arms(state)] == [
        (1, "fine"),
        (None, "crashed"),
        (None, "pruned"),
    ]
    assert rank_arms(state)[1].reason == "killed"


def test_equal_values_share_a_rank():
    state = sweep(trial(0, "a", 0.5), trial(1, "b", 0.5), trial(2, "c", 0.1))
    assert [rank for rank, _ in rank_trials(state)] == [1, 1, 3]


def test_every_round_of_repeats_was_a_look_that_widens_the_next():
    values = {("a", 0): 0.70, ("a", 1): 0.55, ("a", 2): 0.90, ("b", 0): 0.60, ("b", 1): 0.47, ("b", 2): 0.77}
    trials = [trial(n, arm, value, seed=seed) for n, ((arm, seed), value) in enumerate(values.items())]
    of_seeds = {arm: {seed: value for (one, seed), value in values.items() if one == arm} for arm in "ab"}
    for seeds, looks in ((0, 0), (1, 2), (2, 3)):
        cooked = [dataclasses.replace(each, extra=each.seed > 2 - seeds) for each in trials]
        assert standing(sweep(*cooked)) == rank(of_seeds, goal="maximize", interim_looks=looks)


def test_the_document_is_plain_json():
    import json

    text = json.dumps(document(sweep(trial(0, "a", 0.5), trial(1, "b", None))), allow_nan=False)
    assert json.loads(text)["trials"][1]["rank"] is None


def test_seeds_that_ended_without_a_value_are_told_of_and_their_numbers_left_out():
    done = {"sentence": "Done at step 8."}
    state = sweep(
        dataclasses.replace(
            trial(0, "hot", 0.9, metrics={"x": 1.0}), broken="x <= 2 is broken: 9.000", reason="broken"
        ),
        dataclasses.replace(trial(1, "hot", 0.9, seed=1, metrics={"x": 2.0}), verdict=done),
        trial(2, "hot", None, seed=2, status=Status.DIVERGED, metrics={"x": 7.0}),
        trial(3, "hot", None, seed=3, status=Status.WAITING),
        trial(4, "mild", 0.5),
    )
    hot, mild = rank_arms(state)
    assert hot.sentence == "Done at step 8. 2 of 3 seeds not counted: broken; diverged."
    assert (hot.value, hot.seeds, hot.metrics, mild.sentence) == (0.9, 1, {"x": 2.0}, "")


def test_beside_a_value_stand_the_objectives_and_what_was_measured():
    measured = [{"overcook/score": 0.1, "identity/score": 0.5}, {"burn/score": 0.2}]
    assert columns("overcook/utility", (), measured) == [("overcook", "overcook/score"), ("identity", "identity/score")]
    assert columns("identity/score", (), measured) == [("overcook", "overcook/score"), ("burn", "burn/score")]
    asked = ("burn/score", "mine/colour")
    assert columns("identity/score", asked, measured, most=1) == [("burn", "burn/score"), ("colour", "mine/colour")]
    assert columns("overcook/utility", (), []) == []
    assert columns("mine/score", ("yours/score",), []) == [("yours/score",) * 2], "two may end alike"
