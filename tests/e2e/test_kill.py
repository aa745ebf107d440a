"""`kill -9` of a worker, then of the driver, at random moments of a real sweep; then the same command again.

The base is tiny and random, everything else is real: processes, checkpoints, study, MLflow.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killing import (
    STEPS,
    KilledSweep,
    assert_mlflow_agrees,
    assert_same_results,
    assert_study_agrees,
    workers_of,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc"),
]

ARMS = {"low": "{optimizer.lr: 1e-4}", "high": "{optimizer.lr: 1e-2}", "prodigy": "{optimizer: prodigy}"}
KILLS = 5
PATIENCE_S = 900.0  # the machine may be busy


def test_kills_lose_nothing_and_change_nothing(tmp_path: Path, tiny_sd: Path) -> None:
    calm, killed = (
        KilledSweep(tmp_path / name, base=tiny_sd, arms=ARMS, seeds=(0, 1), workers=2) for name in ("calm", "killed")
    )
    assert calm.start().wait(PATIENCE_S) == 0

    chance = random.Random(2)
    worker_kills = 0
    for _ in range(KILLS):
        driver = killed.start()
        # Moments are counted in events, not in seconds: fewer than a trial has, so that the first hit one.
        _let_go_on(driver, killed, events=chance.randint(1, STEPS // 2))
        victims = sorted(workers_of(driver))
        if victims:
            os.kill(chance.choice(victims), signal.SIGKILL)
            worker_kills += 1
        _let_go_on(driver, killed, events=chance.randint(0, STEPS // 4))
        driver.kill()
        driver.wait()
    assert worker_kills > 0
    assert killed.start().wait(PATIENCE_S) == 0

    attempts = [trial["attempt"] for trial in killed.status().values()]
    assert max(attempts) > 1, "no trial was hit, so nothing was tested"
    assert_same_results(killed, calm)
    assert_study_agrees(killed)
    assert_mlflow_agrees(killed)


def _let_go_on(driver: subprocess.Popen[bytes], sweep: KilledSweep, *, events: int) -> None:
    """Wait until so many further events are written, or the sweep has ended."""

    def written() -> int:
        return sum(path.read_bytes().count(b"\n") for path in sweep.folder.glob("*/events.jsonl"))

    enough, end_s = written() + events, time.monotonic() + PATIENCE_S
    while driver.poll() is None and written() < enough:
        assert time.monotonic() < end_s, f"fewer than {events} events in {PATIENCE_S:g} s"
        time.sleep(0.05)
