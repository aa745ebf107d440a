"""Who stops at a rung: Optuna's own decision, within a decade, and what that saves and costs."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import optuna
import pretend_sweep
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from benchmarks.search_comparison import Course, replay
from lorasweep.config.sweep_spec import PrunerOptions
from lorasweep.core.records import Component, Status
from lorasweep.sweep.queue import in_exposures
from lorasweep.sweep.search.pruning import RungPruner, decade_of, is_exempt, make_pruner

RUNGS = (10, 20, 30, 40)
MANY = tuple(range(2, 41, 2))  # of which the later ones are less than a tenth apart
NAMES = ("median", "successive_halving", "hyperband", "patient")


def curves(count: int, *, seed: int, rungs: Sequence[int] = RUNGS) -> list[list[float]]:
    """Trials that differ in how good they get, with noise that can mislead at early rungs."""
    chance = random.Random(seed)
    final = [chance.random() for _ in range(count)]
    return [[value * rung / 40 + chance.gauss(0, 0.05) for rung in rungs] for value in final]


def optunas_own(options: PrunerOptions, told: list[list[float]], goal: Any, rungs: Sequence[int]) -> list[int | None]:
    """The rung at which a plain Optuna study stops each trial; None when it runs its course.

    It hears the best so far, which a trial has in hand; patience hears every rung.
    """
    better = max if goal == "maximize" else min
    if options.name != "patient":
        told = [list(accumulate(values, better)) for values in told]
    pruner = make_pruner(options, first=rungs[0], last=rungs[-1])
    study = optuna.create_study(study_name="decade None", direction=goal, sampler=RandomSampler(seed=0), pruner=pruner)
    stopped: list[int | None] = []
    for values in told:
        trial = study.ask()
        stopped.append(None)
        for rung, value in zip(rungs, values, strict=True):
            trial.report(value, rung)
            if trial.should_prune() and rung != rungs[-1]:
                stopped[-1] = rung
                break
        state = TrialState.COMPLETE if stopped[-1] is None else TrialState.PRUNED
        study.tell(trial, values[-1] if stopped[-1] is None else None, state=state)
    return stopped


def ours(options: PrunerOptions, told: list[list[float]], goal: Any, rungs: Sequence[int]) -> list[int | None]:
    judge = RungPruner(options, metric="overcook/utility", goal=goal)
    stopped: list[int | None] = []
    for number, values in enumerate(told):
        stopped.append(None)
        for rung, value in zip(rungs, values, strict=True):
            why = judge.rung(number, None, exposures=rung + 0.3, last=40, value=value)
            if why and rung != rungs[-1]:
                stopped[-1] = rung
                break
        judge.ended(number, Status.COMPLETED if stopped[-1] is None else Status.PRUNED)
    return stopped


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rungs", [RUNGS, MANY])
def test_the_decision_is_optunas_own(rungs: Sequence[int], name: Any, goal: Any) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = PrunerOptions(name=name, startup=3)
    sign = 1 if goal == "maximize" else -1
    told = [[sign * value for value in values] for values in curves(30, seed=1, rungs=rungs)]

    found = ours(options, told, goal, rungs)

    assert found == optunas_own(options, told, goal, rungs)
    assert any(found) and None in found  # some were stopped, and not all


def test_a_trial_past_its_best_is_not_behind() -> None:
    def stopped(name: Any, latest: float) -> str:
        judge = RungPruner(PrunerOptions(name=name, startup=2), metric="overcook/utility", goal="maximize")
        for number in range(4):
            for rung, value in zip(RUNGS, [0.3, 0.4, 0.4, 0.4], strict=True):
                judge.rung(number, None, exposures=rung, last=40, value=value)
            judge.ended(number, Status.COMPLETED)
        judge.rung(9, None, exposures=10, last=40, value=0.6)
        return judge.rung(9, None, exposures=20, last=40, value=latest)

    assert not stopped("median", 0.1) and not stopped("successive_halving", 0.1)


def test_slow_learners_are_measured_against_slow_learners() -> None:
    options = PrunerOptions(name="median", startup=2)
    fast, slow = [0.5, 0.55, 0.6, 0.65], [0.1, 0.3, 0.6, 0.9]

    def stopped(options: PrunerOptions, decade: int) -> bool:
        judge = RungPruner(options, metric="overcook/utility", goal="maximize")
        for number in range(4):
            for rung, value in zip(RUNGS, fast, strict=True):
                judge.rung(number, -3, exposures=rung, last=40, value=value)
            judge.ended(number, Status.COMPLETED)
        return bool(judge.rung(9, decade, exposures=10, last=40, value=slow[0]))

    assert stopped(options, -3)
    assert not stopped(options, -5)
    assert stopped(dataclasses.replace(options, decades=False), -5)


def test_the_reason_says_what_was_seen_where() -> None:
    judge = RungPruner(PrunerOptions(name="median", startup=1), metric="overcook/utility", goal="maximize")
    judge.rung(0, -4, exposures=9.8, last=40, value=0.5)
    judge.ended(0, Status.COMPLETED)

    why = judge.rung(1, -4, exposures=10.4, last=40, value=0.25)

    assert why == (
        "overcook/utility at best 0.250 by 10 exposures per image is behind among learning rates of 1e-4 (median)"
    )


def test_a_metric_of_its_own_has_its_own_goal() -> None:
    options = PrunerOptions(name="median", metric="burn/score", goal="minimize", startup=1)
    judge = RungPruner(options, metric="overcook/utility", goal="maximize")
    judge.rung(0, None, exposures=10, last=40, value=0.2)
    judge.ended(0, Status.COMPLETED)

    assert judge.metric == "burn/score"
    assert judge.rung(1, None, exposures=10, last=40, value=0.3)
    assert not judge.rung(2, None, exposures=10, last=40, value=0.1)


@pytest.mark.parametrize(("lr", "decade"), [(2e-4, -4), (1e-4, -4), (9.99e-5, -5), (1.0, 0), (None, None), (0, None)])
def test_decades(lr: Any, decade: int | None) -> None:
    options = {} if lr is None else {"lr": lr}
    recipe = dataclasses.replace(pretend_sweep.recipe(), optimizer=Component(name="adamw", options=options))

    assert decade_of(recipe) == decade


def test_exposures_are_whole_numbers_from_one() -> None:
    assert [in_exposures(each) for each in (0.2, 1.4, 12.5, 99.7)] == [1, 1, 12, 100]


def test_lots_are_drawn_once_and_in_their_share() -> None:
    options = PrunerOptions(name="median", exempt=0.2)
    drawn = [is_exempt(options, number) for number in range(2000)]

    assert drawn == [is_exempt(options, number) for number in range(2000)]
    assert sum(drawn) == pytest.approx(400, abs=60)
    assert not any(is_exempt(PrunerOptions(name="none", exempt=1.0), number) for number in range(9))
    assert all(is_exempt(dataclasses.replace(options, exempt=1.0), number) for number in range(9))


def course(number: int, values: list[float]) -> Course:
    return Course(
        number=number,
        decade=None,
        steps=400,
        exposures=40.0,
        rungs=tuple(zip((10.0, 20.0, 30.0, 40.0), values, strict=True)),
        value=values[-1],
    )


def test_a_replay_counts_what_was_saved_and_lost() -> None:
    # Two that set the median, one that is behind and stays there, one late bloomer that would be the best.
    told = [[0.4, 0.5, 0.6, 0.7], [0.4, 0.5, 0.6, 0.7], [0.1, 0.1, 0.1, 0.1], [0.2, 0.3, 0.5, 0.9]]
    courses = [course(number, values) for number, values in enumerate(told)]
    options = PrunerOptions(name="median", startup=2, exempt=1.0)  # exemptions belong to the sweep, not here

    done = replay(courses, options, metric="overcook/utility", goal="maximize")

    assert (done.trials, done.pruned, done.steps, done.saved_steps) == (4, 2, 1600, 600)
    assert (done.best, done.best_kept) == (0.9, 0.7)
    assert done.lost == pytest.approx(0.2)
    assert str(done) == "median: 2 of 4 stopped, 38% of the steps saved, best value lost 0.200"
    nothing = replay(courses, PrunerOptions(name="none"), metric="overcook/utility", goal="maximize")
    assert (nothing.pruned, nothing.saved_steps, nothing.lost) == (0, 0, 0.0)


@pytest.mark.filterwarnings("error")
def test_of_rungs_that_are_less_than_an_exposure_apart_the_first_counts_without_a_word() -> None:
    judge = RungPruner(PrunerOptions(), metric="overcook/utility", goal="maximize")
    assert [judge.rung(0, None, exposures=at, last=1, value=0.5) for at in (0.4, 0.8)] == ["", ""]
