from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.overcooking import analysis, areas, grid, page, scores, stopping
from benchmarks.overcooking.statistics import auroc
from benchmarks.overcooking.table import Checkpoint, by_run
from benchmarks.overcooking.truth import Truth

Pretend = Callable[..., list[Checkpoint]]


def test_without_noise_everything_is_seen(pretend: Pretend) -> None:
    found = analysis.analyse(pretend())
    assert 0 < found["coverage"]["overcooked"] < found["coverage"]["checkpoints"]
    assert found["auroc"][areas.CALIBRATED]["value"] > 0.99
    assert found["auroc"]["memorisation/copy_rate"]["value"] == 1
    # Not quite 1: the truth is full at some rung, and the metric goes on.
    assert found["follow"]["memorisation/copy_rate"]["value"] > 0.9
    assert found["follow"]["prompt_control/score"]["value"] > 0.9
    assert found["follow"]["identity/score"]["follows"] == "identity"


def test_scores_given_while_a_run_cooked_are_not_what_is_compared(pretend: Pretend) -> None:
    """Limits change between cooking and reporting; every page row is about today's."""

    def stale(checkpoint: Checkpoint) -> Checkpoint:
        old = {"overcook/score": -checkpoint.truth.worst, "overcook/utility": 0.5}
        return replace(checkpoint, rung={**checkpoint.rung, "metrics": {**checkpoint.rung["metrics"], **old}})

    found = areas.follow([stale(checkpoint) for checkpoint in pretend()])
    fresh = areas.follow(pretend())
    for score in ("overcook/score", "overcook/utility"):
        assert found[score]["value"] > 0.8
        assert found[score] == fresh[score]


def test_noise_alone_tells_nothing(pretend: Pretend) -> None:
    checkpoints = pretend(noise=100.0, runs=40)
    found = areas.areas(checkpoints)["auroc"]
    assert found[areas.CALIBRATED]["value"] < 0.75
    follow = areas.follow(checkpoints)["memorisation/copy_rate"]
    assert abs(follow["value"]) < 0.5


def test_no_checkpoint_is_scored_by_limits_that_saw_its_group(pretend: Pretend) -> None:
    """Turning one identity's labels around must not move the scores of that identity."""
    checkpoints = pretend(noise=0.05)
    identities = [c.identity for c in checkpoints]
    mine = np.array([identity == "zkw" for identity in identities])
    before = areas.out_of_fold(checkpoints, identities)
    turned = [
        replace(c, truth=replace(c.truth, excess={"copies": 0.0 if c.truth.overcooked else 9.0}))
        if c.identity == "zkw"
        else c
        for c in checkpoints
    ]
    after = areas.out_of_fold(turned, identities)
    assert before[mine] == pytest.approx(after[mine])
    assert not np.allclose(before[~mine], after[~mine])


def test_without_the_reader_the_base_answers_in_its_place() -> None:
    metrics = {
        "burn/score": 1.0,
        "identity/score": 0.2,
        "identity/score_base": 0.4,
        "prompt_control/score": 0.3,
    }
    assert scores.blind(metrics) == {"burn/score": 1.0, "identity/score": 0.4}


def test_the_score_without_the_reader_is_another_and_still_good(pretend: Pretend) -> None:
    checkpoints = pretend()
    bright = areas.variants(checkpoints)
    assert not np.allclose(bright[areas.SHIPPED], bright[areas.BLIND])
    truth = areas.labels(checkpoints)
    assert auroc(bright[areas.CALIBRATED_BLIND], truth) > 0.9


def test_stoppers_by_hand(pretend: Pretend) -> None:
    run = next(rungs for rungs in by_run(pretend()).values() if rungs[0].dials["lr"] == 4e-3)
    utilities = [c.truth.utility for c in run]
    assert stopping.last(run) == len(run) - 1
    losses = [c.metrics["generalisation/held_out"] for c in run]
    assert stopping.validation_loss(run) == int(np.argmin(losses))
    assert stopping.best_identity(run) == len(run) - 1  # it only ever rises
    assert stopping.regret(run, int(np.argmax(utilities))) == 0
    assert stopping.regret(run, stopping.last(run)) == pytest.approx(max(utilities) - utilities[-1])
    assert stopping.fixed_steps(run, [run, run]) == int(np.argmax(utilities))


def test_the_perfect_choice_has_no_regret_on_average_however_noisy_the_witness(pretend: Pretend) -> None:
    """Two witnesses of equally good checkpoints: one alone would find the best of them better by far."""
    rng = np.random.default_rng(0)
    pretended = next(iter(by_run(pretend()).values()))

    def seen() -> Truth:
        return Truth(identity=float(np.clip(0.5 + 0.1 * rng.normal(), 0, 1)), excess={"bleed": 0.0}, extra={})

    found, naive = [], []
    for _ in range(300):
        run = [replace(c, halves=(seen(), seen())) for c in pretended]
        found.append(stopping.regret(run, 0))
        utilities = [c.halves[0].utility for c in run]
        naive.append(max(utilities) - utilities[0])
    assert np.mean(naive) > 0.1
    assert np.mean(found) == pytest.approx(0, abs=0.02)


def test_dvar_stops_where_the_loss_has_settled(pretend: Pretend) -> None:
    run = by_run(pretend())["run-0"]

    def with_losses(losses: list[float]) -> list[Checkpoint]:
        rows = []
        for checkpoint, loss in zip(run, losses, strict=True):
            metrics = dict(checkpoint.metrics) | {"generalisation/train": loss}
            rows.append(replace(checkpoint, rung=dict(checkpoint.rung) | {"metrics": metrics}))
        return rows

    assert stopping.dvar(with_losses([0.5, 0.2, 0.2, 0.2, 0.2, 0.2])) == 3
    assert stopping.dvar(with_losses([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])) == 5  # never settles: the end


def test_done_at_beats_the_last_checkpoint_where_runs_burn(pretend: Pretend) -> None:
    found = stopping.stopping(pretend(runs=24))
    assert found["runs"] == 24
    assert found["stoppers"]["last checkpoint"]["more_than_ours"]["low"] > 0
    assert found["stoppers"][stopping.CALIBRATED]["regret"]["value"] < 0.1


def test_half_cooked_runs_are_not_asked_where_to_stop(pretend: Pretend) -> None:
    checkpoints = [replace(c, ended=c.run != "run-0") for c in pretend()]
    assert stopping.stopping(checkpoints)["runs"] == 11


def test_the_page_says_what_is_missing(pretend: Pretend) -> None:
    found = analysis.analyse(pretend(runs=4))
    found["facts"] = {
        "date": "2026-01-01",
        "machine": "a machine",
        "cores": 4,
        "grid_runs": 276,
        "runs_left_out": 0,
        "run_cpu_s": 100.0,
        "witness_share": 0.5,
        "grid_hours": 2.0,
        "weight": 0.7,
        "base": "dollhouse",
        "lr_times": 1.0,
        "identities": "by_hand",
        "fingerprint": "abc",
        "commit": "c0ffee",
        "steps": 240,
        "rungs": 6,
        "counts": {"trained": 10, "open": 2},
        "pictures": 10,
        "processes": 4,
        "budget": "60m",
    }
    text = page.write(found, pictures="pictures", story="")
    assert "4 of the grid's 276 runs" in text
    assert "The grid is not complete" in text
    assert "10 pictures a rung" in text and "--open 2" in text
    assert "nan" not in text


def test_a_single_identity_is_enough_for_a_page(pretend: Pretend) -> None:
    checkpoints = [replace(c, identity="zkw") for c in pretend(runs=2)]
    found = analysis.analyse(checkpoints)
    assert np.isnan(found["auroc"][areas.CALIBRATED]["value"])
    assert found["auroc"][areas.SHIPPED]["n"] == len(checkpoints)


def test_homes_stand_side_by_side(pretend: Pretend) -> None:
    found = analysis.analyse(pretend(runs=4))
    settings = {"here": grid.Setting(), "there": grid.Setting(base="dollhouse_flow", lr_times=0.5)}
    columns = {name: page.column(setting, found) for name, setting in settings.items()}
    assert columns["there"].pop("limits") == columns["here"]["limits"], "pretended checkpoints have the dollhouse's"
    text = page.beside(columns)
    rows = {line.split(" | ")[0].strip("| "): line.strip("| \n").split(" | ")[1:] for line in text.splitlines()}
    assert rows["base"] == ["dollhouse", "dollhouse_flow"] and rows["learning rates"][1] == "0.5 x the grid's"
    assert rows["area of O as shipped"][0].startswith("1.00") and len(rows["limits"]) == 1
    assert rows["... more of last checkpoint"] and rows["controls judged rightly"][0] == "0 of 0"
