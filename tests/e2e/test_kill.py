"""`kill -9` of a worker, then of the driver, at random moments of a real sweep; then the same command again.

The base is tiny and random, everything else is real: processes, checkpoints, study, MLflow.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorasweep.files import read_json

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc"),
]

SWEEP = """\
sweep:
  question: Does anything get lost?
  metric: {{name: overcook/utility, goal: maximize}}
  seeds: [0, 1]
  recipe:
    base: stable_diffusion
    base.path: {base}
    base.resolution: 32
    base.bucket_step: 8
    buckets: single
    adapter.dim: 2
    train.max_steps: 24
    train.rungs: 3
    train.batch_size: 2
    train.log_every: 1
    train.device: cpu
    dataset.dollhouse.images: 8
    sample.steps: 2
    sample.seeds: [0]
    sample.weights: [0.7]
    launcher.workers: 2
  arms:
    low: {{optimizer.lr: 1e-4}}
    high: {{optimizer.lr: 1e-2}}
    prodigy: {{optimizer: prodigy}}
"""
TRIALS = 6
KILLS = 5
PATIENCE_S = 300.0


def start(home: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lorasweep", "sweep", str(home / "killed.yaml"), "--json"]
    environment = {**os.environ, "LORASWEEP_HOME": str(home), "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)


def finish(home: Path) -> dict[str, dict[str, object]]:
    """Run the command to its end; returns the trials of `status --json` by run folder."""
    assert start(home).wait(PATIENCE_S) == 0
    command = [sys.executable, "-m", "lorasweep", "status", "killed", "--json"]
    environment = {**os.environ, "LORASWEEP_HOME": str(home)}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    status = json.loads(shown.stdout)
    assert status["counts"] == {"COMPLETED": TRIALS}
    return {Path(trial["run_folder"]).name: trial for trial in status["trials"]}


def workers_of(driver: subprocess.Popen[bytes]) -> Iterator[int]:
    """Children of the driver that print into a worker's log."""
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            output = os.readlink(entry / "fd" / "1")
        except (OSError, ValueError, IndexError):
            continue
        if parent == driver.pid and "/worker-" in output:
            yield int(entry.name)


def make_home(folder: Path, base: Path) -> Path:
    folder.mkdir()
    (folder / "killed.yaml").write_text(SWEEP.format(base=base))
    return folder


def test_kills_lose_nothing_and_change_nothing(tmp_path: Path, tiny_sd: Path) -> None:
    calm, killed = make_home(tmp_path / "calm", tiny_sd), make_home(tmp_path / "killed", tiny_sd)
    began = time.monotonic()
    expected = finish(calm)
    whole_s = time.monotonic() - began

    chance = random.Random(2)
    worker_kills = 0
    for _ in range(KILLS):
        driver = start(killed)
        time.sleep(chance.uniform(0.1, 0.8) * whole_s)
        victims = sorted(workers_of(driver))
        if victims:
            os.kill(chance.choice(victims), signal.SIGKILL)
            worker_kills += 1
        time.sleep(chance.uniform(0.0, 0.2) * whole_s)
        driver.kill()
        driver.wait()
    assert worker_kills > 0
    found = finish(killed)

    assert found.keys() == expected.keys()
    attempts = {name: trial["attempt"] for name, trial in found.items()}
    assert max(attempts.values()) > 1, "no trial was hit, so nothing was tested"
    for name, trial in found.items():
        ours, theirs = (home / "outputs" / "killed" / name for home in (killed, calm))
        weights = [(folder / "adapter.safetensors").read_bytes() for folder in (ours, theirs)]
        assert weights[0] == weights[1], f"{name}: other weights after {trial['attempt']} attempts"
        assert trial["metrics"] == expected[name]["metrics"]
        steps = [row["step"] for row in rungs(ours)]
        assert steps == [8, 16, 24], f"{name}: rungs {steps}"
    assert_mlflow_agrees(killed, found)


def rungs(run_folder: Path) -> list[dict[str, int]]:
    return read_json(run_folder / "metrics.json")["rungs"]


def assert_mlflow_agrees(home: Path, trials: dict[str, dict[str, object]]) -> None:
    """One finished run per trial, none besides them and the parent, with the very values."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlruns/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = {run.info.run_id: run for run in client.search_runs(experiments)}
    ids = {str(trial["mlflow_run_id"]) for trial in trials.values()}
    parents = {run.data.tags["mlflow.parentRunId"] for run in runs.values() if run.info.run_id in ids}
    assert len(ids) == len(trials) and len(parents) == 1
    assert set(runs) == ids | parents
    for trial in trials.values():
        run = runs[str(trial["mlflow_run_id"])]
        assert run.info.status == "FINISHED"
        assert run.data.metrics["overcook/utility"] == pytest.approx(trial["value"])
