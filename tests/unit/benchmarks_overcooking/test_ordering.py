from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau

from benchmarks.overcooking import stopping
from benchmarks.overcooking.table import Checkpoint, by_run
from lorasweep.trial.judge.score import UTILITY

Pretend = Callable[..., list[Checkpoint]]
FIRST_STEP = 40


def stirred(checkpoints: list[Checkpoint], **changes: str) -> list[Checkpoint]:
    """The first rung of each run, before it burns, truly more or less like the subject: no two are alike."""
    rng = np.random.default_rng(0)
    return [
        replace(c, truth=replace(c.truth, identity=float(rng.uniform(0.3, 1.0))), **changes)
        for c in checkpoints
        if c.step == FIRST_STEP
    ]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_share_of_pairs_is_kendalls_within_one_identity(pretend: Pretend, seed: int) -> None:
    rows = stirred(pretend(noise=0.05, seed=seed), identity="zkw")
    last = [rungs[-1] for rungs in by_run(rows).values()]
    told = [c.metrics[UTILITY] for c in last]
    tau = kendalltau(told, [c.truth.utility for c in last]).statistic
    found = stopping.ordering(rows)["last"]
    assert found["pairs"] == math.comb(12, 2) and abs(tau) < 0.9
    assert found["U"]["value"] == pytest.approx((tau + 1) / 2)


def test_only_recipes_for_one_character_are_compared(pretend: Pretend) -> None:
    assert stopping.ordering(stirred(pretend()))["kept"]["pairs"] == 4 * math.comb(
        3, 2
    )  # four identities, three runs of each


def test_two_runs_are_told_apart_by_the_error_of_both(pretend: Pretend) -> None:
    """Rungs without replicates have no error, and are never told apart."""
    rows = stirred(pretend(noise=0.05), identity="zkw")
    assert stopping.ordering(rows)["last"]["apart"] == 0

    def replicated(checkpoint: Checkpoint, spread: float) -> Checkpoint:
        parts = [
            {**checkpoint.metrics, "identity/score": checkpoint.metrics["identity/score"] + sign * spread}
            for sign in (-1, 1, -1, 1)
        ]
        return replace(checkpoint, rung={**checkpoint.rung, "replicates": parts})

    sure, unsure = (stopping.ordering([replicated(c, spread) for c in rows])["last"]["apart"] for spread in (0.0, 0.05))
    assert 0 < unsure < sure <= math.comb(12, 2)
