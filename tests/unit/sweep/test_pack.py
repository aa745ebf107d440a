"""Workers that train several trials at a time: the same ends as one by one, whatever becomes of a neighbour."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from pretend_sweep import STEPS, cook, numbered_arms, spec
from sweep_checks import assert_study_agrees, by_arm, log, starts
from test_driver import StopAtStep

from lorasweep.core.files import read_json, read_jsonl
from lorasweep.core.records import Component, LauncherOptions, Recipe, Status
from lorasweep.plan.memory import Room
from lorasweep.plan.packing import choose, share_key
from lorasweep.sweep.launchers import local


def packed(arms: dict[str, dict[str, Any]], pack: int = 3, workers: int = 1, **cared_for: Any) -> Any:
    launcher = LauncherOptions(workers=workers, options={"pack": pack}, **cared_for)
    return dataclasses.replace(spec(arms), launcher=launcher)


def sharing_nothing(declared: Any) -> Any:
    """The same, of an adapter whose trials share no forward."""
    arms = [
        dataclasses.replace(arm, recipe=dataclasses.replace(arm.recipe, adapter=Component(name="loha")))
        for arm in declared.arms
    ]
    return dataclasses.replace(declared, arms=tuple(arms))


def at_a_time(folder: Path) -> int:
    """How many trials were at hand at most."""
    held = most = 0
    for line in log(folder):
        held += {"start": 1, "end": -1}.get(line.split()[0], 0)
        most = max(most, held)
    return most


def left(folder: Path) -> dict[str, Any]:
    found = {}
    for run in sorted(folder.glob("0*")):
        events = [
            {key: value for key, value in row.items() if key != "time"} for row in read_jsonl(run / "events.jsonl")
        ]
        status = {key: read_json(run / "status.json")[key] for key in ("status", "step", "attempt", "value", "reason")}
        found[run.name] = (events, status)
    return found


def test_trials_leave_what_they_leave_one_by_one(tmp_path: Path) -> None:
    arms = {f"arm{index}": {"value": 0.1 * index, "step_s": 0.01} for index in range(7)}
    arms |= {"nan": {"ends": "DIVERGED"}, "twin": arms["arm3"]}
    cook(packed(arms, 1), tmp_path / "alone")
    result = cook(packed(arms, 3), tmp_path / "packed")
    assert result.state.counts == {"COMPLETED": 8, "DIVERGED": 1}
    assert (at_a_time(tmp_path / "alone"), at_a_time(tmp_path / "packed")) == (1, 3)
    assert left(tmp_path / "packed") == left(tmp_path / "alone")
    assert len({read_json(file)["pid"] for file in (tmp_path / "packed").glob("*/worker.json")}) == 1
    assert_study_agrees(tmp_path / "packed")


def test_few_trials_are_spread_over_the_workers(tmp_path: Path) -> None:
    cook(packed(numbered_arms(2, step_s=0.2), workers=2), tmp_path)
    assert len({read_json(file)["pid"] for file in tmp_path.glob("*/worker.json")}) == 2


def test_trials_that_share_no_forward_are_trained_one_by_one(tmp_path: Path) -> None:
    result = cook(sharing_nothing(packed(numbered_arms(3, step_s=0.02))), tmp_path)
    assert result.state.counts == {"COMPLETED": 3}
    assert at_a_time(tmp_path) == 1


def test_an_error_of_one_costs_its_neighbours_no_crash(tmp_path: Path) -> None:
    result = cook(packed({**numbered_arms(2, step_s=0.05), "bad": {"ends": "invalid"}}), tmp_path)
    ended = by_arm(result.state)
    assert ended["bad"].status is Status.INVALID
    for arm in ("arm0", "arm1"):
        assert (ended[arm].status, ended[arm].crashes) == (Status.COMPLETED, 0)
        assert ended[arm].attempt == 2
    # Saved before the process made room for a fresh one, which held two again.
    assert all(int(line.split()[2]) > 0 for line in starts(tmp_path)[3:])
    assert_study_agrees(tmp_path)


def test_a_worker_that_leaves_is_handed_nothing_more(tmp_path: Path) -> None:
    # For repeats there are more places than trials.
    result = cook(packed({"bad": {"ends": "raise"}, "other": {"step_s": 0.2}}), tmp_path, repeats=0)
    assert (by_arm(result.state)["bad"].crashes, by_arm(result.state)["bad"].attempt) == (3, 3)


def test_a_worker_that_is_killed_costs_each_of_its_trials_one_attempt(tmp_path: Path) -> None:
    result = cook(packed({"dies": {"die_once": True}, **numbered_arms(3, step_s=0.02)}), tmp_path)
    assert result.state.counts == {"COMPLETED": 4}
    assert all(trial.attempt <= 2 for trial in result.state.trials)
    again = [line.split() for line in starts(tmp_path)[3:]]
    assert {name for _, name, step in again if int(step) == STEPS // 2} >= {"0000-dies-s0"}, "from its checkpoint"
    assert_study_agrees(tmp_path)


@pytest.mark.slow
def test_who_kills_does_not_take_the_others_along_to_the_end(tmp_path: Path) -> None:
    result = cook(packed({"dies": {"ends": "die"}, **numbered_arms(3, step_s=0.05)}), tmp_path)
    assert result.state.counts == {"COMPLETED": 3, "CRASHED": 1}


@pytest.mark.parametrize(("room", "most"), [(2, 2), pytest.param(1, 1, marks=pytest.mark.slow)])
def test_where_memory_is_short_fewer_are_trained_at_a_time(tmp_path: Path, room: int, most: int) -> None:
    result = cook(packed(numbered_arms(6, room=room), 4), tmp_path)
    assert result.state.counts == {"COMPLETED": 6}
    assert all(trial.crashes == 0 for trial in result.state.trials)
    said = (tmp_path / "workers" / "worker-0.log").read_text()
    # All four, unless the worker was at work before they had all arrived.
    failed = re.findall(r"ends, .*: MemoryError: no room for (\d), with \1 trials at a time", said)
    assert failed and ("2" in failed) == (most == 1)


def test_a_trial_that_is_too_big_alone_is_out_of_memory(tmp_path: Path) -> None:
    result = cook(packed({"big": {"ends": "cuda_memory"}, **numbered_arms(2, step_s=0.05)}), tmp_path)
    assert by_arm(result.state)["big"].status is Status.OUT_OF_MEMORY
    assert result.state.counts == {"COMPLETED": 2, "OUT_OF_MEMORY": 1}


def test_stopping_saves_all_and_the_same_call_goes_on(tmp_path: Path) -> None:
    declared, stop = packed(numbered_arms(4, step_s=0.1)), StopAtStep(step=1, times=1, begun=3)
    result = cook(declared, tmp_path, on_change=stop, stop=stop.signal)
    assert (result.exit_code, result.state.counts) == (130, {"WAITING": 1, "CANCELLED": 3})
    assert cook(declared, tmp_path).state.counts == {"COMPLETED": 4}
    gone_on = sum(int(line.split()[2]) > 0 for line in starts(tmp_path))
    assert gone_on in (2, 3), "the last may have been stopped before its first step"
    assert_study_agrees(tmp_path)


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced_with_all_it_had_at_hand(tmp_path: Path) -> None:
    result = cook(packed({"a": {"hang_once": True}, **numbered_arms(2, step_s=0.02)}, hang_s=1.5), tmp_path)
    assert result.state.counts == {"COMPLETED": 3}
    assert all(trial.attempt <= 2 for trial in result.state.trials)


def test_a_worker_makes_room_after_so_many_trials(tmp_path: Path) -> None:
    result = cook(packed(numbered_arms(7, step_s=0.02), recycle_after=3), tmp_path)
    assert result.state.counts == {"COMPLETED": 7}
    assert all(trial.crashes == 0 for trial in result.state.trials)
    assert_study_agrees(tmp_path)


def test_trials_that_waited_in_a_worker_that_leaves_have_lost_nothing(tmp_path: Path) -> None:
    result = cook(sharing_nothing(packed(numbered_arms(8), 8, recycle_after=1)), tmp_path)
    assert result.state.counts == {"COMPLETED": 8}
    assert [trial.crashes for trial in result.state.trials] == [0] * 8


def recipe(**changes: Any) -> Recipe:
    (arm,) = spec({"a": {}}).arms
    train = dataclasses.replace(arm.recipe.train, batch_size=changes.pop("batch_size", 1))
    return dataclasses.replace(arm.recipe, train=train, regularization={}, **changes)


def test_auto_packs_where_that_was_measured_to_pay() -> None:
    def count(*recipes: Recipe, gib: float | None = 16.0, gpu: bool = False, learns: bool = False) -> int:
        room = None if gib is None else Room(gib=gib, workers=1, on_gpu=gpu)
        return choose("auto", recipes, room=room, learns=learns)[0]

    assert [count(recipe(batch_size=batch)) for batch in (1, 4, 6, 8, 32)] == [4, 4, 2, 2, 1]
    assert [count(recipe(batch_size=batch), learns=True) for batch in (1, 2, 4)] == [4, 2, 1]
    assert count(recipe(), recipe(batch_size=8)) == 2
    assert count(recipe(), recipe(adapter=Component(name="loha"))) == 1
    assert count(recipe(), recipe(memory=dataclasses.replace(recipe().memory, tile_vae=True))) == 1
    assert choose(2, [recipe(batch_size=32)], room=None, learns=False)[0] == 2
    assert [count(recipe(batch_size=32), gib=gib, gpu=True) for gib in (None, 2.0, 80.0)] == [1, 1, 4]
    assert count(recipe(), gib=0.5) == 1  # of a machine's memory, too


def test_what_acts_by_more_than_a_product_shares_with_nobody() -> None:
    lora = {"dim": 2, "targets": "attn"}
    assert share_key(recipe(adapter=Component(name="locon"))) == share_key(recipe(seed=3)) is not None
    for options in ({"dropout": 0.1}, {"text_encoder": True}):
        assert share_key(recipe(adapter=Component(name="lora", options=lora | options))) is None


def test_the_pool_shares_out_no_more_places_than_there_are_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    def packing(recipe: Recipe) -> tuple[int, str]:
        room = local.room(LauncherOptions(), [recipe], jobs=8)
        return local.packing(LauncherOptions(), [recipe], room=room, learns=False)

    assert packing(recipe()) == (4, "on a CPU it pays up to 16 images a forward, and a batch has 1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr("shutil.which", lambda name: None)  # so that nothing tells how large it is
    on_gpu = dataclasses.replace(recipe(), train=dataclasses.replace(recipe().train, device="auto"))
    assert packing(on_gpu) == (1, "the GPU does not tell how much memory it has")
