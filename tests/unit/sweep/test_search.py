"""A space cooked by real workers: to its total, once each, pruned or not, killed or not."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pretend_sweep
import pytest
from optuna.trial import TrialState
from pretend_space import SPACE, slowed, sweep
from ready_processes import start_script
from sweep_checks import assert_study_agrees, log, starts

from lorasweep.config.space import Axis, Choice, Space
from lorasweep.config.sweep_spec import Constraint, Objective, PrunerOptions, SamplerOptions
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.files import read_json, read_jsonl
from lorasweep.core.records import Status
from lorasweep.sweep.manifest import ASKED_FILE, read_manifest
from lorasweep.sweep.ranking.state import params as params_of
from lorasweep.sweep.ranking.state import read_state
from lorasweep.sweep.search.study import STUDY_FILE, SweepStudy

SCRIPT = Path(__file__).parent / "pretend_space.py"
PATIENCE_S = 120.0
GRID = Space(axes=(Axis("a", Choice((1, 2, 3))), Axis("value", Choice((0.25, 0.75)))))


def params(folder: Path) -> list[dict[str, object]]:
    """Of every point, in the order in which they were asked."""
    return [row["params"] for row in read_jsonl(folder / ASKED_FILE) if row["params"] is not None]


def numbers(folder: Path) -> list[int]:
    return sorted(
        row["number"] + offset for row in read_jsonl(folder / ASKED_FILE) for offset in range(len(row["seeds"]))
    )


def test_a_search_goes_to_its_total_known_recipes_first(tmp_path: Path) -> None:
    arms = {"known": {"value": 0.3}, "better": {"value": 0.9}}

    result = sweep(tmp_path, total=6, arms=arms, workers=2)

    assert result.exit_code == 0
    trials = result.state.trials
    names = [f"p{index:03d}-value{trial.value:.3g}" for index, trial in enumerate(trials[2:])]
    assert [trial.arm for trial in trials] == ["known", "better", *names]
    assert result.state.counts == {"COMPLETED": 6} and result.state.total == 6
    assert [trial.number for trial in trials] == list(range(6))
    for trial, asked in zip(trials[2:], params(tmp_path), strict=True):
        assert trial.value == asked[f"value[branch={asked['branch']}]"]
    assert_study_agrees(tmp_path)
    before = log(tmp_path)
    again = sweep(tmp_path, total=6, arms=arms, workers=2)
    assert again.state.counts == {"COMPLETED": 6} and log(tmp_path) == before
    assert "real_s" in read_json(tmp_path / "timing.json")


def test_seeds_are_repeats_of_a_point(tmp_path: Path) -> None:
    result = sweep(tmp_path, total=5, seeds=(7, 8), workers=2)

    cooked = [(trial.arm.partition("-")[0], trial.seed) for trial in result.state.trials]
    assert cooked == [("p000", 7), ("p000", 8), ("p001", 7), ("p001", 8), ("p002", 7)]
    study = SweepStudy(tmp_path, read_manifest(tmp_path)).trials()
    told = {trial.user_attrs["number"]: trial.params for trial in study}
    assert told[0] == told[1] != told[2] == told[3]
    assert "seed" not in told[0]


def test_a_grid_is_cooked_once_each(tmp_path: Path) -> None:
    result = sweep(tmp_path, total=6, space=GRID, sampler=SamplerOptions(name="grid"), workers=2)

    assert result.exit_code == 0
    assert params(tmp_path) == [dict(point.params) for point in GRID.grid()]
    assert len(starts(tmp_path)) == 6


def test_a_small_space_asks_for_the_same_point_twice_and_cooks_it_once(tmp_path: Path) -> None:
    result = sweep(tmp_path, total=10, space=GRID, workers=1)

    assert result.state.counts == {"COMPLETED": 10}
    different = {json.dumps(each, sort_keys=True) for each in params(tmp_path)}
    assert len(starts(tmp_path)) == len(different) < 10
    assert_study_agrees(tmp_path)


def test_interrupted_it_asks_for_the_same_points(tmp_path: Path) -> None:
    options = SamplerOptions(name="tpe", startup=3)
    sweep(tmp_path / "whole", total=7, sampler=options, workers=1)
    for total in (2, 5, 7):
        sweep(tmp_path / "parts", total=total, sampler=options, workers=1, extend=True)

    assert params(tmp_path / "parts") == params(tmp_path / "whole")
    assert numbers(tmp_path / "parts") == list(range(7))


def test_a_changed_space_is_diffed_and_goes_on_with_extend(tmp_path: Path) -> None:
    sweep(tmp_path, total=2, workers=1)
    narrow = Space(axes=(SPACE.axes[0], SPACE.axes[1]))
    changed = {"space": narrow, "total": 3, "sampler": SamplerOptions(name="tpe")}

    with pytest.raises(ConfigError) as caught:
        sweep(tmp_path, **changed)

    found = {problem.where: problem.message for problem in caught.value.problems}
    assert found["space.value[branch=high]"] == "was interval(0.5,1.0), is now (absent)"
    assert found["total"] == "was 2, is now 3"
    assert "sampler" in found
    result = sweep(tmp_path, **changed, extend=True)
    assert result.state.counts == {"COMPLETED": 3}
    assert len(starts(tmp_path)) == 3
    assert_study_agrees(tmp_path)
    with pytest.raises(ConfigError, match="3 trials were asked for already"):
        sweep(tmp_path, **{**changed, "total": 2}, extend=True)


def test_a_lost_study_keeps_its_points_and_rungs(tmp_path: Path) -> None:
    pruner = PrunerOptions(name="median", startup=2, exempt=0.0)
    sweep(tmp_path, total=6, workers=1, pruner=pruner)
    before = SweepStudy(tmp_path, read_manifest(tmp_path)).trials()
    (tmp_path / STUDY_FILE).unlink()

    sweep(tmp_path, total=6, workers=1, pruner=pruner)

    after = SweepStudy(tmp_path, read_manifest(tmp_path)).trials()
    assert [t.params for t in after] == [t.params for t in before]
    assert [t.intermediate_values for t in after] == [t.intermediate_values for t in before]
    assert [t.state for t in after] == [t.state for t in before]


def test_a_study_that_is_lost_meanwhile_asks_for_the_same_points(tmp_path: Path) -> None:
    options = SamplerOptions(name="tpe", startup=3)
    sweep(tmp_path / "whole", total=7, sampler=options, workers=1)
    lost, files = tmp_path / "lost", []

    def lose() -> None:
        files.append((lost / STUDY_FILE).exists())
        (lost / STUDY_FILE).unlink(missing_ok=True)

    sweep(lost, total=7, sampler=options, workers=1, on_trial_end=lose)

    assert files.count(True) > 2, "it was lost and written again"
    assert params(lost) == params(tmp_path / "whole")
    assert (lost / STUDY_FILE).exists() is False


def test_pruned_trials_stop_at_a_rung_and_say_why(tmp_path: Path) -> None:
    pruner = PrunerOptions(name="median", startup=2, exempt=0.0)

    result = sweep(tmp_path, total=8, workers=1, pruner=pruner)

    assert result.exit_code == 0
    counts = result.state.counts
    assert counts["PRUNED"] >= 1 and counts["PRUNED"] + counts["COMPLETED"] == 8
    for trial in result.state.trials:
        if trial.status is Status.PRUNED:
            assert (trial.step, trial.steps) == (4, 8)
            assert "by 4 exposures per image is behind (median)" in trial.reason
    summary = read_json(tmp_path / "pruning.json")
    assert summary["pruned"] == counts["PRUNED"]
    assert summary["saved_steps"] == 4 * counts["PRUNED"]
    assert summary["spent_steps"] == 64 - summary["saved_steps"]
    assert_study_agrees(tmp_path)


def test_what_another_sweep_has_cooked_is_known_to_the_pruner_at_once(tmp_path: Path) -> None:
    good = pretend_sweep.numbered_arms(3, value=0.8)
    pretend_sweep.cook(pretend_sweep.spec(good), tmp_path / "earlier")
    arms = good | {"again": good["arm0"], "behind": {"value": 0.1}}
    pruner = PrunerOptions(name="median", startup=3, exempt=0.0)
    declared = dataclasses.replace(pretend_sweep.spec(arms, workers=1), pruner=pruner)

    result = pretend_sweep.cook(declared, tmp_path / "now", fresh=False)

    assert result.state.counts == {"COMPLETED": 4, "PRUNED": 1}
    summary = read_json(tmp_path / "now" / "pruning.json")
    assert (summary["spent_steps"], summary["saved_steps"]) == (4, 4)  # what was reused was not spent


def test_a_duplicate_is_no_second_trial_to_the_pruner_of_a_continued_sweep(tmp_path: Path) -> None:
    arms = {"one": {"value": 0.8}, "same": {"value": 0.8}, "two": {"value": 0.9}, "behind": {"value": 0.1}}
    pruner = PrunerOptions(name="median", startup=3, exempt=0.0)
    for folder, parts in (("whole", [4]), ("parts", [3, 4])):
        for count in parts:
            declared = pretend_sweep.spec(dict(list(arms.items())[:count]), workers=1)
            declared = dataclasses.replace(declared, pruner=pruner)
            result = pretend_sweep.cook(declared, tmp_path / folder, extend=True)
        assert result.state.counts == {"COMPLETED": 4}, folder


def test_exempt_trials_run_their_course_and_are_remembered(tmp_path: Path) -> None:
    pruner = PrunerOptions(name="median", startup=2, exempt=1.0)

    result = sweep(tmp_path, total=8, workers=1, pruner=pruner)

    assert result.state.counts == {"COMPLETED": 8}
    summary = read_json(tmp_path / "pruning.json")
    assert summary["exempt"] == 8 and summary["saved_steps"] == 0
    spared = [each["number"] for each in summary["spared"]]
    assert spared
    for number in spared:
        status = read_json(next(tmp_path.glob(f"{number:04d}-*")) / "status.json")
        assert status["exempt"] is True and "is behind" in status["spared"]


def test_constraints_and_a_second_objective_are_told(tmp_path: Path) -> None:
    # The pretend trial measures overcook/score 0.25 in every trial.
    bounds = (Constraint(metric="overcook/score", sign="<=", bound=0.2),)
    further = (Objective(name="overcook/score", goal="minimize", worst=1.0),)
    sampler = SamplerOptions(name="pareto", startup=4)

    result = sweep(tmp_path, total=6, constraints=bounds, further=further, sampler=sampler, workers=2)

    assert result.state.counts == {"COMPLETED": 6}
    for trial in SweepStudy(tmp_path, read_manifest(tmp_path)).trials():
        assert trial.state is TrialState.COMPLETE
        assert trial.values[1] == 0.25
        assert trial.constraints == {"overcook/score": pytest.approx(0.05)}
    for trial in result.state.trials:
        assert trial.value is not None
        assert trial.reason == trial.broken == "overcook/score <= 0.2 is broken: 0.250"
    assert [row["rank"] for row in read_json(tmp_path / "leaderboard.json")["trials"]] == [None] * 6
    # A second objective that nobody measured is not made up.
    (tmp_path / "b").mkdir()
    nothing = (Objective(name="burn/score"),)
    sweep(tmp_path / "b", total=1, further=nothing, sampler=sampler, workers=1)
    (trial,) = SweepStudy(tmp_path / "b", read_manifest(tmp_path / "b")).trials()
    assert trial.state is TrialState.FAIL


def _refuse(monkeypatch: pytest.MonkeyPatch, refused: Callable[[dict[str, Any]], bool]) -> None:
    """Make points with such params no recipes."""
    compose = pretend_sweep.compose

    def picky(overrides: Sequence[str]) -> object:
        if overrides and refused(params_of(overrides)):
            raise ConfigError(Problem("adapter.unit", "must divide dim"))
        return compose(overrides)

    monkeypatch.setattr(pretend_sweep, "compose", picky)


def test_a_point_that_makes_no_recipe_is_invalid_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refuse(monkeypatch, lambda point: point["a"] == 2)
    grid = {"space": GRID, "sampler": SamplerOptions(name="grid"), "workers": 1}

    result = sweep(tmp_path, total=6, **grid)

    assert (result.halted, result.exit_code) == ("", 0)
    assert result.state.counts == {"COMPLETED": 4, "INVALID": 2}
    bad = [trial for trial in result.state.trials if trial.status is Status.INVALID]
    assert {trial.reason for trial in bad} == {"adapter.unit  must divide dim"}
    assert [trial.overrides[0] for trial in bad] == ["a=2", "a=2"]
    told = {each.user_attrs["number"]: each for each in SweepStudy(tmp_path, read_manifest(tmp_path)).trials()}
    assert all(told[trial.number].constraints == {"invalid": 1.0} for trial in bad)
    assert_study_agrees(tmp_path)
    before = log(tmp_path)
    again = sweep(tmp_path, total=6, **grid)
    assert again.state.counts == result.state.counts and log(tmp_path) == before


def test_three_points_in_a_row_that_make_no_recipe_stop_the_sweep_and_a_restart_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refuse(monkeypatch, lambda point: point["a"] < 3)
    grid = {"space": GRID, "sampler": SamplerOptions(name="grid"), "workers": 1, "seeds": (0, 1)}

    first = sweep(tmp_path, total=12, **grid)
    second = sweep(tmp_path, total=12, **grid)

    assert "3 points of the space in a row make no recipe: adapter.unit  must divide dim" in first.halted
    assert (first.exit_code, first.state.counts) == (1, {"INVALID": 6})
    assert (second.halted, second.exit_code) == ("", 0)
    assert second.state.counts == {"INVALID": 8, "COMPLETED": 4}
    assert numbers(tmp_path) == list(range(12))


def test_a_grid_that_grows_has_every_point_with_every_seed_once(tmp_path: Path) -> None:
    def cook(*values: float, seeds: tuple[int, ...] = (0,), total: int, **more: Any) -> Any:
        space = Space(axes=(Axis("value", Choice(values)),))
        grid = {"space": space, "sampler": SamplerOptions(name="grid"), "seeds": seeds, "workers": 1}
        return sweep(tmp_path, total=total, **grid, **more)

    cook(0.5, 0.75, total=2)
    grown = cook(0.25, 0.5, 0.75, total=3, extend=True)
    repeated = cook(0.25, 0.5, 0.75, seeds=(0, 1), total=6, extend=True)

    assert [trial.value for trial in grown.state.trials] == [0.5, 0.75, 0.25]
    told = sorted((trial.overrides, trial.seed) for trial in repeated.state.trials)
    assert told == [((f"value={value}",), seed) for value in (0.25, 0.5, 0.75) for seed in (0, 1)]
    assert (repeated.exit_code, repeated.state.total, len({trial.arm for trial in repeated.state.trials})) == (0, 6, 3)
    assert_study_agrees(tmp_path)
    with pytest.raises(ConfigError, match="the grid has no point value=0.5 any more, which was asked for as p000"):
        cook(0.25, 0.75, 1.0, seeds=(0, 1), total=6, extend=True)


def test_choices_that_become_floats_are_a_difference_that_may_be_extended(tmp_path: Path) -> None:
    def axis(*values: float) -> dict[str, Any]:
        return {"space": Space(axes=(Axis("value", Choice(values)),)), "sampler": SamplerOptions(name="grid")}

    sweep(tmp_path, total=2, **axis(0, 0.25), workers=1)

    with pytest.raises(ConfigError, match=r"was choice\(0,0.25\), is now choice\(0.0,0.25\)"):
        sweep(tmp_path, total=2, **axis(0.0, 0.25), workers=1)
    assert sweep(tmp_path, total=2, **axis(0.0, 0.25), workers=1, extend=True).exit_code == 0
    assert_study_agrees(tmp_path)


def test_a_torn_line_was_never_asked(tmp_path: Path) -> None:
    sweep(tmp_path, total=2, workers=1)
    with open(tmp_path / ASKED_FILE, "a", encoding="utf-8") as file:
        file.write('{"number": 2, "arm": "p0')

    result = sweep(tmp_path, total=3, workers=1, extend=True)

    assert result.state.counts == {"COMPLETED": 3}
    assert numbers(tmp_path) == [0, 1, 2]


def test_killed_at_any_moment_it_asks_no_number_twice(tmp_path: Path) -> None:
    words = (str(tmp_path), "6", "0.03")
    for asked in (0, 2, 5):
        driver = start_script(SCRIPT, *words)
        until = time.monotonic() + PATIENCE_S
        while not (tmp_path / STUDY_FILE).exists() or len(numbers(tmp_path)) < asked:
            assert time.monotonic() < until and driver.poll() is None, f"it never asked for {asked}"
            time.sleep(0.02)
        driver.kill()
        driver.wait()
    assert start_script(SCRIPT, *words).wait(PATIENCE_S) == 0

    state = read_state(tmp_path)
    assert state.counts == {"COMPLETED": 6}
    assert numbers(tmp_path) == list(range(6))
    assert params(tmp_path) == params_of_an_undisturbed(tmp_path / "undisturbed")
    ended = [line for line in log(tmp_path) if line.startswith("end")]
    assert len(ended) == len(set(ended)) == 6
    assert_study_agrees(tmp_path)


def params_of_an_undisturbed(folder: Path) -> list[dict[str, object]]:
    """Points at random do not depend on when trials end, so not on kills either."""
    folder.mkdir()
    sweep(folder, total=6, space=slowed(0.03), workers=2)
    return params(folder)
