"""A grid that was never cooked: checkpoints whose metrics are known functions of a known truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.overcooking import scores, statistics  # noqa: E402
from benchmarks.overcooking.grid import CENTRE  # noqa: E402
from benchmarks.overcooking.table import Checkpoint  # noqa: E402
from benchmarks.overcooking.truth import Truth  # noqa: E402

Pretend = Callable[..., list[Checkpoint]]
STEPS = (40, 80, 120, 160, 200, 240)


@pytest.fixture(autouse=True)
def few_draws(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals need many draws; whether they are drawn rightly is asked in test_statistics.py."""
    if request.path.name != "test_statistics.py":
        monkeypatch.setattr(statistics, "DRAWS", 40)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets it for its process, which here is that of all tests."""
    monkeypatch.setenv("LORASWEEP_HOME", str(tmp_path))


@pytest.fixture
def pretend() -> Pretend:
    """Make runs whose harm grows with lr x step; `noise` is what is added to every metric."""

    def make(*, runs: int = 12, noise: float = 0.0, seed: int = 0) -> list[Checkpoint]:
        rng = np.random.default_rng(seed)
        return [checkpoint for number in range(runs) for checkpoint in _run(number, rng, noise)]

    return make


def _run(number: int, rng: np.random.Generator, noise: float) -> list[Checkpoint]:
    lr = (1e-3, 2e-3, 4e-3)[number % 3]
    return [_checkpoint(number, lr, step, rng, noise) for step in STEPS]


def _checkpoint(number: int, lr: float, step: int, rng: np.random.Generator, noise: float) -> Checkpoint:
    dose = lr * step / 0.4
    excess = {
        "copies": 1.6 * dose**2,
        "bleed": 1.2 * dose,
        "control": 1.5 * dose**3,
        "variety": dose / 2,
        "corrupt": dose**4,
    }
    truth = Truth(identity=1 - float(np.exp(-4 * dose)), excess=excess, extra={"bleed_open": dose / 2, "altered": dose})

    def measured(value: float) -> float:
        return float(value + noise * rng.normal())

    def loss(value: float) -> float:
        return max(0.01, measured(value))

    metrics = {
        "memorisation/copy_rate": measured(0.1 * excess["copies"]),
        "prior_drift/class": measured(0.5 * excess["bleed"]),
        "prompt_control/score": measured(1 - 0.2 * excess["control"]),
        "burn/score": measured(0.5 * excess["corrupt"]),
        "identity/score": measured(truth.identity),
        "generalisation/held_out": loss(1 - 0.5 * dose + dose**2),
        "generalisation/train": loss(float(np.exp(-5 * dose))),
    }
    return Checkpoint(
        run=f"run-{number}",
        recipe=f"lr-{lr}" if lr != CENTRE["lr"] else "centre",
        dials=CENTRE | {"lr": lr, "images": 8 if number % 2 else 20},
        identity=("zkw", "vqx", "ohru", "mona taco")[number % 4],
        seed=number % 2,
        ended=True,
        step=step,
        rung={"step": step, "exposures_per_image": step / 4, "metrics": metrics, "replicates": []},
        truth=truth,
        halves=(truth, truth),
        cpu_s=1.0,
        limits=scores.shipped("dollhouse"),
        had_a_say=number < 6,
    )
