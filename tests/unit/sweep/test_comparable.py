"""An arm that measures less does not rank higher for it: trials are compared by what all of them measure."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pretend_sweep
import pytest
import yaml

from lorasweep.cli import main
from lorasweep.config import SweepSpec
from lorasweep.config.sweep_spec import PrunerOptions
from lorasweep.core.records import Outcome, Status
from lorasweep.core.run_folder import TrialRecord
from lorasweep.sweep.queue import Trial
from lorasweep.sweep.ranking import leaderboard
from lorasweep.sweep.ranking.state import SweepState, TrialState, agree
from lorasweep.sweep.search.pruning import PruningGate
from lorasweep.sweep.trial_writer import TrialWriter
from lorasweep.trial.judge import score

GRADES = {"overcook/burn": 0.6, "overcook/control": 0.2, "overcook/rise": 0.1}


def judged(fidelity: float, **changes: Any) -> dict[str, float]:
    grades = {name: value for name, value in (GRADES | changes).items() if value is not None}
    overcooked = score.overcook({name.partition("/")[2]: value for name, value in grades.items()})
    return grades | {
        score.SCORE: overcooked,
        score.FIDELITY: fidelity,
        score.UTILITY: fidelity * (1 - overcooked),
        score.IDENTITY: fidelity,
    }


def trial(number: int, arm: str, metrics: dict[str, float], **changes: Any) -> TrialState:
    values = {"status": Status.COMPLETED, "value": metrics.get(score.UTILITY)} | changes
    return TrialState(
        number=number, arm=arm, seed=0, step=8, steps=8, attempt=1, run_folder=f"/x/{number}",
        metrics=metrics, **values,
    )  # fmt: skip


def state(*trials: TrialState, left_out: dict[str, str] | None = None) -> SweepState:
    return SweepState(
        name="s", question="?", metric=score.UTILITY, goal="maximize", folder="/x", trials=trials,
        left_out=left_out or {},
    )  # fmt: skip


def write_sweep(folder: Path, arms: dict[str, Any], **more: Any) -> str:
    recipe = {"train.max_steps": 4, "dataset.dollhouse.images": 6, "tracking": "none"}
    path = folder / "compare.yaml"
    path.write_text(yaml.safe_dump({"sweep": {"question": "?", "recipe": recipe, "arms": arms, **more}}))
    return str(path)


@pytest.mark.parametrize(
    ("overrides", "symptoms"),
    [
        ({"dataset.holdout": 0}, {"rise"}),
        ({"~metrics.burn": None}, {"burn"}),
        ({"~metrics.memorisation": None}, {"memorisation"}),
        ({"~metrics.prior_drift": None}, {"class_drift"}),
        ({}, set()),
    ],
)  # fmt: skip
def test_plan_says_which_symptoms_are_left_out_and_why(
    home: Path, capsys: pytest.CaptureFixture[str], overrides: dict[str, Any], symptoms: set[str]
) -> None:
    path = write_sweep(home, {"all": {}, "less": overrides})
    assert main(["plan", path, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["left_out"]
    assert told.keys() == symptoms
    assert all(why.startswith("arm less: ") for why in told.values())


def test_utilities_that_mean_different_things_are_refused_before_anything_starts(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(home, {"all": {}, "less": {"~metrics.identity": None}})
    for command in ("plan", "sweep"):
        assert main([command, path]) == 2
        said = capsys.readouterr().err
        assert "arm less does not measure identity" in said and "sweep.metric.name" in said
    assert not (home / "outputs" / "compare").exists()


def test_the_arm_that_did_not_measure_its_worst_symptom_gains_nothing() -> None:
    worse = trial(1, "blind", judged(0.8, **{"overcook/burn": None, "overcook/control": 0.3}))
    better = trial(0, "seen", judged(0.8))
    assert worse.value is not None and better.value is not None and worse.value > better.value
    found = agree(state(better, worse))
    assert [row.arm for row in leaderboard.rank_arms(found)] == ["seen", "blind"]
    assert list(found.left_out) == ["burn"] and "trial 1 (blind)" in found.left_out["burn"]
    assert "burn" in leaderboard.document(found)["left_out"]


def test_equal_recipes_tie_whatever_was_measured_of_them() -> None:
    found = agree(state(trial(0, "a", judged(0.8)), trial(1, "b", judged(0.8, **{"overcook/burn": None}))))
    assert [row.rank for row in leaderboard.rank_arms(found)] == [1, 1]


def test_trials_without_a_value_take_no_symptom_from_the_others() -> None:
    pruned = trial(1, "b", judged(0.1, **{"overcook/burn": None}), status=Status.PRUNED)
    failed = trial(2, "c", {}, status=Status.CRASHED, value=None)
    whole = state(trial(0, "a", judged(0.8)), pruned, failed)
    assert agree(whole) is whole


def test_a_stand_in_for_identity_is_not_ranked_against_identities() -> None:
    stand_in = {key: value for key, value in judged(0.9).items() if key != score.IDENTITY}
    found = agree(state(trial(0, "a", judged(0.5)), trial(1, "b", stand_in)))
    first, last = leaderboard.rank_arms(found)
    assert (first.arm, last.rank) == ("a", None) and "identity/score could not be read" in last.reason


def pruned_spec(**how: Any) -> SweepSpec:
    return dataclasses.replace(
        pretend_sweep.spec({"good": {"tag": 1}, "bad": {"tag": 2}}),
        pruner=PrunerOptions(name="median", startup=1, exempt=0.0, **how),
    )


def at_rungs(spec: SweepSpec, number: int, *rungs: dict[str, float], folder: Path = Path()) -> Trial:
    """A trial of the driver's as far as its rungs; number 0 has ended."""
    arm = spec.arms[number]
    planned = pretend_sweep.plan(arm.recipe)
    status = Status.COMPLETED if number == 0 else Status.WAITING
    record = TrialRecord(number=number, arm=arm.name, seed=0, status=status, fingerprint="f", steps=planned.steps)
    found = {float(n): metrics for n, metrics in enumerate(rungs, start=1)}
    return Trial(record=record, recipe=arm.recipe, plan=planned, folder=folder, overrides=(), rungs=found, step=1)


def test_what_optuna_and_pruners_hear_is_what_is_ranked(tmp_path: Path) -> None:
    seen, blind = judged(0.8), judged(0.8, **{"overcook/burn": None})
    spec = pruned_spec(metric=score.SCORE, goal="minimize")
    writer = TrialWriter(pruned_spec(), None, left_out={"burn": "why"})
    values = []
    for number, metrics in enumerate((seen, blind)):
        trial = at_rungs(spec, number, metrics, folder=tmp_path / str(number))
        writer.begin(trial)
        writer.end(trial, Outcome(status=Status.COMPLETED, step=1, metrics=metrics))
        values.append(trial.record.value)
    assert values[0] == values[1] is not None

    ended, running = at_rungs(spec, 0, blind), at_rungs(spec, 1, seen)
    assert PruningGate(spec, [ended], left_out={"burn"}).rung(running)
    assert not PruningGate(spec, [ended]).rung(running), "it would count against it that its burn was measured"


def test_a_trial_that_asks_twice_at_a_rung_is_answered_alike() -> None:
    spec = pruned_spec()
    good = at_rungs(spec, 0, {score.UTILITY: 0.8}, {score.UTILITY: 0.9})
    bad = at_rungs(spec, 1, {score.UTILITY: 0.1})
    gate = PruningGate(spec, [good])
    assert not gate.rung(bad) and bad.stopped
    assert not gate.rung(bad), "asked again by the attempt that continues, in the same sweep"
    assert not PruningGate(spec, [good, bad]).rung(bad), "and in one that was continued"
