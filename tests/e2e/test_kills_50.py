"""Fifty kills over one real sweep: 12 trials, 3 workers, `kill -9` of workers and of the driver.

    pytest -m slow tests/e2e/test_kills_50.py   5 times as long as the undisturbed sweep, measured 2026-11-23

Afterwards: 12 COMPLETED, none twice, none lost; study, run folders and MLflow agree; every trial has the very
weights that an undisturbed sweep gives it. The base is tiny and random, everything else is real.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
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

ARMS = {
    "low": "{optimizer.lr: 1e-4}",
    "high": "{optimizer.lr: 1e-2}",
    "prodigy": "{optimizer: prodigy}",
    "locon": "{adapter: locon, adapter.dim: 2, adapter.conv_dim: 2}",
}
SEEDS = (0, 1, 2)
KILLS = 50
DRIVER_SHARE = 0.25
PATIENCE_S = 900.0


class Killer:
    """Kills at random moments, sooner when the sweep is ahead of the kills, so that all fifty hit it."""

    def __init__(self, sweep: KilledSweep, *, start_s: float) -> None:
        self._sweep, self._start_s = sweep, start_s
        self._chance = random.Random(7)
        self.kills: Counter[str] = Counter()
        self.finished: dict[str, tuple[int, int]] = {}  # attempt and time of the weights, once completed

    def run(self) -> None:
        """Start, kill, start again, until all kills are done."""
        driver = self._sweep.start()
        while self.kills.total() < KILLS:
            time.sleep(self._chance.uniform(0.1, 1.0) * self._pace() * self._start_s)
            if driver.poll() is None:
                self._kill(driver)
            if driver.poll() is not None:
                assert driver.returncode != 0, f"done after {self.kills.total()} kills: make trials longer"
                self._remember()
                driver = self._sweep.start()
        driver.kill()
        driver.wait()
        self._remember()

    def _pace(self) -> float:
        """How long to wait, in starts of a worker: long when the sweep is behind the kills."""
        records = self._sweep.records().values()
        done = sum(record["step"] for record in records) / (STEPS * self._sweep.trials)
        return 3.0 if done < self.kills.total() / KILLS * 0.9 else 0.5

    def _kill(self, driver: subprocess.Popen[bytes]) -> None:
        victims = sorted(workers_of(driver))
        if not victims or self._chance.random() < DRIVER_SHARE:
            driver.kill()
            driver.wait()
            self.kills["driver"] += 1
            return
        try:
            os.kill(self._chance.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            return
        self.kills["worker"] += 1

    def _remember(self) -> None:
        """Note what is finished; nothing of it may be touched again."""
        for name, record in self._sweep.records().items():
            if record["status"] == "COMPLETED":
                weights = (self._sweep.folder / name / "adapter.safetensors").stat().st_mtime_ns
                assert self.finished.setdefault(name, (record["attempt"], weights)) == (
                    record["attempt"],
                    weights,
                )


def test_fifty_kills_lose_nothing_and_change_nothing(tmp_path: Path, tiny_sd: Path) -> None:
    calm, killed = (
        KilledSweep(tmp_path / name, base=tiny_sd, arms=ARMS, seeds=SEEDS, workers=3) for name in ("calm", "killed")
    )
    began = time.monotonic()
    driver = calm.start()
    while not calm.records():
        assert driver.poll() is None, (calm.home / "driver.log").read_text()
        time.sleep(0.1)
    start_s = time.monotonic() - began
    assert driver.wait(PATIENCE_S) == 0
    print(f"undisturbed: {time.monotonic() - began:.0f} s, first trial after {start_s:.0f} s")

    killer = Killer(killed, start_s=start_s)
    killer.run()
    print(f"{dict(killer.kills)} after {time.monotonic() - began:.0f} s, {len(killer.finished)} trials finished")
    for _ in range(3):  # a trial that was killed three times in a row asks for the command to be given again
        if killed.start().wait(PATIENCE_S) == 0:
            break
    print(f"complete after {time.monotonic() - began:.0f} s")

    assert killer.kills.total() >= KILLS and min(killer.kills.values()) >= 5
    for name, (attempt, weights) in killer.finished.items():
        assert killed.records()[name]["attempt"] == attempt, f"{name} was cooked again"
        assert (killed.folder / name / "adapter.safetensors").stat().st_mtime_ns == weights
    attempts = [trial["attempt"] for trial in killed.status().values()]
    print(f"attempts per trial: {attempts}")
    assert sum(attempts) > killed.trials, "no trial was hit, so nothing was tested"
    assert_same_results(killed, calm)
    assert_study_agrees(killed)
    assert_mlflow_agrees(killed)
