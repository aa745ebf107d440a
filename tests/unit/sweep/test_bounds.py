"""Bounds of a sweep when it goes on: edited in the sweep file, or met by a trial whose end nobody noted."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pretend_space
import pretend_sweep
import pytest

from lorasweep.config.sweep_spec import Constraint, SamplerOptions
from lorasweep.core.files import read_json, write_json
from lorasweep.core.records import Outcome, Status
from lorasweep.core.run_folder import RunFolder, TrialRecord
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.sweep.driver import SweepResult
from lorasweep.sweep.manifest import read_manifest
from lorasweep.sweep.search.study import SweepStudy
from lorasweep.sweep.trial_writer import recover
from lorasweep.trial.judge import score

# The pretend trial measures overcook/score 0.25 in every trial.
KEPT, BROKEN = (Constraint(metric="overcook/score", sign="<=", bound=bound) for bound in (0.3, 0.2))
SAID = "overcook/score <= 0.2 is broken: 0.250"


def cook(folder: Path, bound: Constraint | None) -> SweepResult:
    spec = pretend_sweep.spec({"a": {"value": 0.4}, "b": {"value": 0.6}})
    bounds = () if bound is None else (bound,)
    result: SweepResult = pretend_sweep.cook(dataclasses.replace(spec, constraints=bounds), folder)
    return result


def ranks(folder: Path) -> list[int | None]:
    return [row["rank"] for row in read_json(folder / "leaderboard.json")["arms"]]


@pytest.mark.parametrize("edited", [None, KEPT])
def test_an_edited_bound_holds_for_trials_that_ended_before(tmp_path: Path, edited: Constraint | None) -> None:
    assert {trial.reason for trial in cook(tmp_path, edited).state.trials} == {""}
    assert ranks(tmp_path) == [1, 2]

    again = cook(tmp_path, BROKEN).state
    assert {(trial.broken, trial.reason) for trial in again.trials} == {(SAID, SAID)}
    assert ranks(tmp_path) == [None, None]

    back = cook(tmp_path, edited).state
    assert {(trial.broken, trial.reason) for trial in back.trials} == {("", "")}
    assert ranks(tmp_path) == [1, 2]


def test_a_search_is_told_of_an_edited_bound_for_every_trial(tmp_path: Path) -> None:
    sampler = SamplerOptions(name="tpe", startup=2)
    pretend_space.sweep(tmp_path, total=2, constraints=(KEPT,), sampler=sampler, workers=2)
    pretend_space.sweep(tmp_path, total=3, constraints=(BROKEN,), sampler=sampler, workers=2, extend=True)

    told = [trial.constraints for trial in SweepStudy(tmp_path, read_manifest(tmp_path)).trials()]
    assert told == [{"overcook/score": pytest.approx(0.05)}] * 3


def test_bounds_and_pruner_of_named_arms_are_written_down_and_told(tmp_path: Path) -> None:
    cook(tmp_path, BROKEN)
    declared = read_manifest(tmp_path)
    assert declared is not None and declared.search["pruner"]["name"] == "none"
    told = [trial.constraints for trial in SweepStudy(tmp_path, declared).trials()]
    assert told == [{"overcook/score": pytest.approx(0.05)}] * 2


def test_a_trial_whose_end_nobody_noted_is_held_against_the_bounds(tmp_path: Path) -> None:
    cook(tmp_path, BROKEN)
    (run,) = tmp_path.glob("0000-*")
    noted = read_json(run / "status.json")
    # The driver was killed after its worker had told the outcome.
    unnoted = {"status": Status.RUNNING.value, "value": None, "measured": {}, "broken": "", "reason": ""}
    write_json(run / "status.json", noted | unnoted | {"ended_at": None})

    cook(tmp_path, BROKEN)

    assert read_json(run / "status.json") | {"ended_at": None} == noted | {"ended_at": None}


def test_what_a_sweep_is_compared_without_is_no_part_of_an_unnoted_value(tmp_path: Path) -> None:
    record = TrialRecord(number=0, arm="a", seed=0, status=Status.RUNNING, step=8, steps=8, attempt=1)
    one, other = (symptom.name for symptom in SYMPTOMS[:2])
    grades = {f"overcook/{one}": 0.75, f"overcook/{other}": 0.25}
    metrics = {**grades, "overcook/score": 0.8125, "overcook/fidelity": 0.5, "overcook/utility": 0.09375}
    run = RunFolder(tmp_path)
    run.write_record(record)
    run.write_outcome(Outcome(status=Status.COMPLETED, step=8, metrics=metrics), attempt=1)

    found = recover(tmp_path, "overcook/utility", left_out=[one])

    assert found is not None and found.value == score.without(metrics, [one])["overcook/utility"] != 0.09375
