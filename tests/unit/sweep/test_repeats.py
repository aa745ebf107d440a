"""Which repeats are asked for, and sweeps that ask for them."""

from __future__ import annotations

import dataclasses

import pytest
from pretend_sweep import cook, recipe, spec
from sweep_checks import assert_study_agrees, by_arm, log, starts

from lorasweep.components import bases
from lorasweep.core.files import read_json, write_json
from lorasweep.plan import calibration
from lorasweep.sweep import result_cache
from lorasweep.sweep.ranking.noise import next_round
from lorasweep.sweep.ranking.state import read_state


def ask(values, *, taken=None, limit=9, **more):
    taken = taken or {arm: set(seeds) for arm, seeds in values.items()}
    more = {"goal": "maximize", "interim_looks": 1, **more}
    return next_round(values, taken, limit=dict.fromkeys(values, limit), **more)


def test_the_best_and_those_near_it_get_a_new_seed():
    values = {
        "best": {0: 0.80, 1: 0.90},
        "near": {0: 0.79, 1: 0.88},
        "far": {0: 0.10, 1: 0.20},
    }
    assert ask(values) == [("best", 2), ("near", 2)]
    assert ask(values, goal="minimize") == []


def test_pairs_are_made_whole_before_new_seeds_are_taken():
    values = {"best": {0: 0.80, 1: 0.90, 2: 0.7}, "near": {0: 0.79, 1: 0.88}}
    assert ask(values) == [("near", 2)]


def test_a_seed_that_failed_is_not_tried_again():
    values = {"best": {0: 0.80, 1: 0.90}, "near": {0: 0.79, 1: 0.88}}
    taken = {"best": {0, 1}, "near": {0, 1, 2}}
    assert ask(values, taken=taken) == [("best", 2)]


def test_single_seeds_are_repeated_by_rank_and_only_a_few():
    values = {f"arm{n}": {0: 1.0 - n / 100} for n in range(20)}
    assert ask(values) == [("arm0", 1), ("arm1", 1), ("arm2", 1), ("arm3", 1)]


def test_the_limit_ends_it():
    values = {"best": {0: 0.80, 1: 0.90}, "near": {0: 0.79, 1: 0.88}}
    assert ask(values, limit=2) == []
    assert ask({"alone": {0: 1.0}}) == []


def test_an_arm_at_its_limit_is_passed_by_and_the_best_ends_it():
    values = {"best": {0: 0.80, 1: 0.90}, "near": {0: 0.79, 1: 0.88}, "next": {0: 0.78, 1: 0.87}}
    few, all_ = {0, 1}, set(range(9))
    assert ask(values, taken={"best": few, "near": all_, "next": few}) == [("best", 2), ("next", 2)]
    assert ask(values, taken={"best": few, "near": all_, "next": all_}) == [], "no seed of the best's could help"
    assert ask(values, taken={"best": all_, "near": few, "next": few}) == []


def test_of_many_the_hardest_to_tell_are_those_near_for_their_noise():
    waver = (0.03, -0.02, 0.02, -0.03, 0.02, -0.02)
    values = {"best": dict.fromkeys(range(6), 0.9), "steady": {seed: 0.85 + by for seed, by in enumerate(waver)}}
    values |= {f"wild{n}": {0: 0.8 - by, 1: 0.8 + by} for n, by in enumerate((0.30, 0.28, 0.26))}
    assert ask(values) == [("wild0", 2), ("wild1", 2), ("wild2", 2)]


def noisy(arms, **more):
    return spec({arm: {"value": value, "noise": 0.03} for arm, value in arms.items()}, **more)


def test_a_sweep_goes_on_until_it_is_decided(tmp_path):
    declared = noisy({"good": 0.70, "better": 0.74, "bad": 0.2}, seeds=(0, 1))
    assert not read_json_noise(cook(declared, tmp_path), tmp_path)["decided"]
    result = cook(declared, tmp_path, repeats=12)
    assert result.exit_code == 0
    noise = read_json_noise(result, tmp_path)
    assert (noise["best"], noise["decided"]) == ("better", True)
    cooked = {arm: sum(trial.arm == arm for trial in result.state.trials) for arm in ("good", "better", "bad")}
    assert cooked["bad"] <= 3 < cooked["good"] == cooked["better"] < 14
    assert sum(trial.extra for trial in result.state.trials) == len(result.state.trials) - 6
    assert_study_agrees(tmp_path)
    # Whatever was added stays part of the sweep, with or without the wish.
    before = log(tmp_path)
    assert cook(declared, tmp_path).exit_code == 0
    assert cook(declared, tmp_path, repeats=12).state.total == result.state.total
    assert log(tmp_path) == before


def test_a_sweep_that_cannot_be_decided_stops_at_the_limit(tmp_path):
    result = cook(spec({"a": {"tag": 1}, "b": {"tag": 2}}), tmp_path, repeats=3)
    assert result.state.counts == {"COMPLETED": 8}
    assert not read_json_noise(result, tmp_path)["decided"]


def read_json_noise(result, folder):
    assert result.state.counts == read_state(folder).counts
    return read_json(folder / "leaderboard.json")["noise"]


# ------------------------------------------------------------------------------- cooked by another sweep


def test_what_another_sweep_has_cooked_is_reused_and_says_so(tmp_path):
    cook(spec({"a": {"value": 0.3}, "b": {"value": 0.4}}), tmp_path / "first")
    second = tmp_path / "second"
    result = cook(spec({"mine": {"value": 0.3}, "new": {"value": 0.6}}), second, fresh=False)
    assert result.state.counts == {"COMPLETED": 2}
    assert starts(second) == ["start 0001-new-s0 0"]
    mine = by_arm(result.state)["mine"]
    assert (mine.value, mine.attempt, mine.reused_from) == (0.3, 0, "first/0000-a-s0")
    assert "first/0000-a-s0" in mine.reason
    assert mine.metrics["overcook/score"] == 0.25
    assert (second / "0000-mine-s0" / "checkpoints" / "step.json").exists()
    assert_study_agrees(second)
    # A third one names where it was really cooked.
    third = cook(spec({"again": {"value": 0.3}}), tmp_path / "zzz", fresh=False)
    assert third.state.trials[0].reused_from == "first/0000-a-s0"


def test_what_has_lost_its_result_is_cooked_again(tmp_path):
    arms = {"a": {"value": 0.3}, "b": {"value": 0.4}}
    cook(spec(arms), tmp_path / "first")
    result = tmp_path / "first" / "0001-b-s0" / "metrics.json"
    result.write_bytes(result.read_bytes()[:20])
    assert cook(spec(arms), tmp_path / "second", fresh=False).state.counts == {"COMPLETED": 2}
    assert starts(tmp_path / "second") == ["start 0001-b-s0 0"]


def test_what_was_judged_by_other_limits_is_cooked_again(tmp_path, home):
    arms = {"a": {"value": 0.3}, "b": {"value": 0.4}}
    cook(spec(arms), tmp_path / "first")
    today = calibration.find(recipe(), bases.fingerprint(recipe())).calibration.digest
    for trial, digest in (("0000-a-s0", today), ("0001-b-s0", "before `calibrate`")):
        result = tmp_path / "first" / trial / "metrics.json"
        write_json(result, {**read_json(result), "calibration": {"digest": digest}})
    result = cook(spec(arms), tmp_path / "second", fresh=False)
    assert result.state.counts == {"COMPLETED": 2}
    assert starts(tmp_path / "second") == ["start 0001-b-s0 0"]


def test_a_sweep_of_reused_trials_has_its_base_samples_as_well(tmp_path):
    declared = spec({"a": {"value": 0.3}, "b": {"value": 0.4}})
    cook(declared, tmp_path / "first")
    again = cook(declared, tmp_path / "again", fresh=False)
    assert again.state.counts == {"COMPLETED": 2}
    theirs, ours = (tmp_path / name / "base_samples" / "index.json" for name in ("first", "again"))
    assert ours.read_bytes() == theirs.read_bytes()
    assert not (tmp_path / "again" / "log.txt").exists()  # nothing was cooked, and nobody drew them


def test_base_samples_of_another_first_trial_are_drawn_and_shown(tmp_path):
    cook(spec({"a": {"value": 0.3}, "b": {"value": 0.4}}), tmp_path / "first")
    shown = []
    index = tmp_path / "part" / "base_samples" / "index.json"
    part = spec({"b": {"value": 0.4}})
    result = cook(part, tmp_path / "part", fresh=False, on_trial_end=lambda: shown.append(index.exists()))
    assert result.exit_code == 0 and log(tmp_path / "part") == ["base"]
    assert shown[-1]  # the contact sheet is drawn again once its first row is there
    assert cook(part, tmp_path / "part", fresh=False).exit_code == 0
    assert log(tmp_path / "part") == ["base"]


@pytest.mark.parametrize("damage", ['{"images', '{"images": [{"file": "there.png"}, {"file": "gone.png"}]}'])
def test_base_samples_that_are_not_whole_are_drawn_again(tmp_path, damage):
    declared = spec({"a": {"value": 0.3}})
    cook(declared, tmp_path)
    index, there = (tmp_path / "base_samples" / name for name in ("index.json", "there.png"))
    whole = index.read_bytes()
    index.write_text(damage)
    there.touch()
    assert cook(declared, tmp_path).exit_code == 0 and index.read_bytes() == whole
    assert [line for line in log(tmp_path) if not line.startswith("end")] == ["base", "start 0000-a-s0 0", "base"]
    assert not there.exists()  # a filled folder is no place for another


def test_reused_trials_do_not_wait_for_a_base_that_cannot_be_drawn(tmp_path):
    cook(spec({"a": {"value": 0.3}, "b": {"value": 0.4}}), tmp_path / "first")
    part = tmp_path / "part"
    part.mkdir()
    (part / "base_samples").write_text("in the way")
    result = cook(spec({"b": {"value": 0.4}}), part, fresh=False)
    assert result.exit_code == 0 and result.state.counts == {"COMPLETED": 1}


def test_another_metric_is_read_from_what_was_measured(tmp_path):
    cook(spec({"a": {"value": 0.3}}), tmp_path / "first")
    other = dataclasses.replace(spec({"a": {"value": 0.3}}), metric="overcook/score")
    result = cook(other, tmp_path / "second", fresh=False)
    assert (result.state.trials[0].value, len(result.state.trials[0].reused_from) > 0) == (0.25, True)


def test_fresh_cooks_anyway_and_other_code_is_another_thing(tmp_path, monkeypatch):
    declared = spec({"a": {"value": 0.3}})
    cook(declared, tmp_path / "first")
    assert cook(declared, tmp_path / "second").state.trials[0].attempt == 1
    monkeypatch.setattr(result_cache, "code_digest", lambda: "tomorrow's")
    assert cook(declared, tmp_path / "third", fresh=False).state.trials[0].attempt == 1


@pytest.mark.parametrize("ends", ["DIVERGED", "raise"])
def test_what_failed_elsewhere_is_tried(tmp_path, ends):
    declared = spec({"a": {"ends": ends}}, workers=1)
    cook(declared, tmp_path / "first")
    assert cook(declared, tmp_path / "second", fresh=False).state.trials[0].attempt > 0
