"""What the kill tests share: a small real sweep over a tiny base, its processes, and what must hold after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lorasweep.core.files import read_json

STEPS, RUNGS = 24, 3
SWEEP = """\
sweep:
  question: Does anything get lost?
  metric: {{name: overcook/utility, goal: maximize}}
  seeds: {seeds}
  recipe:
    base: stable_diffusion
    base.path: {base}
    base.resolution: 32
    base.bucket_step: 8
    buckets: single
    adapter.dim: 2
    train.max_steps: {steps}
    train.rungs: {rungs}
    train.batch_size: 2
    train.log_every: 1
    train.device: cpu
    dataset.dollhouse.images: 8
    sample.steps: 2
    sample.seeds: [0]
    sample.weights: [0.7]
    launcher.workers: {workers}
  arms:
{arms}
"""


class KilledSweep:
    """One sweep called `killed` in a home of its own, run as a person would: by the command line."""

    def __init__(self, home: Path, *, base: Path, arms: Mapping[str, str], seeds: Sequence[int], workers: int) -> None:
        home.mkdir()
        self.home = home
        self.folder = home / "outputs" / "killed"
        self.trials = len(arms) * len(seeds)
        lines = "\n".join(f"    {name}: {keys}" for name, keys in arms.items())
        text = SWEEP.format(base=base, arms=lines, seeds=list(seeds), workers=workers, steps=STEPS, rungs=RUNGS)
        (home / "killed.yaml").write_text(text)
        self._environment = {**os.environ, "LORASWEEP_HOME": str(home), "OMP_NUM_THREADS": "1"}
        self._environment.pop("MLFLOW_TRACKING_URI", None)

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "lorasweep", "sweep", str(self.home / "killed.yaml"), "--json"]
        with open(self.home / "driver.log", "ab") as log:
            return subprocess.Popen(
                command,
                env=self._environment,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def sync(self) -> None:
        """Bring MLflow up to date, in case the sweep's own mirror ran out of time."""
        command = [sys.executable, "-m", "lorasweep", "sync", "killed"]
        subprocess.run(command, env=self._environment, stdout=subprocess.DEVNULL, check=True)

    def status(self) -> dict[str, dict[str, Any]]:
        """The trials of `status --json` by run folder."""
        command = [sys.executable, "-m", "lorasweep", "status", "killed", "--json"]
        shown = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True)
        return {Path(trial["run_folder"]).name: trial for trial in json.loads(shown.stdout)["trials"]}

    def records(self) -> dict[str, dict[str, Any]]:
        """status.json of every run folder that has one."""
        return {path.parent.name: read_json(path) for path in self.folder.glob("*/status.json")}


def workers_of(driver: subprocess.Popen[bytes]) -> Iterator[int]:
    """Children of the driver that print into a worker's log; Linux."""
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            output = os.readlink(entry / "fd" / "1")
        except (OSError, ValueError, IndexError):
            continue
        if parent == driver.pid and "/worker-" in output:
            yield int(entry.name)


def assert_same_results(ours: KilledSweep, calm: KilledSweep) -> None:
    """Every trial completed, with the weights, metrics and rungs of the undisturbed sweep."""
    found, expected = ours.status(), calm.status()
    assert found.keys() == expected.keys() and len(found) == ours.trials
    for name, trial in found.items():
        assert trial["status"] == "COMPLETED", f"{name}: {trial['status']} ({trial['reason']})"
        weights = [(each.folder / name / "adapter.safetensors").read_bytes() for each in (ours, calm)]
        assert weights[0] == weights[1], f"{name}: other weights after {trial['attempt']} attempts"
        assert trial["metrics"] == expected[name]["metrics"]
        rungs = [row["step"] for row in read_json(ours.folder / name / "metrics.json")["rungs"]]
        assert rungs == [STEPS * (rung + 1) // RUNGS for rung in range(RUNGS)], f"{name}: rungs {rungs}"


def assert_study_agrees(sweep: KilledSweep) -> None:
    """Optuna has one COMPLETE per trial, with its value, and nothing that is still running."""
    import optuna

    study = optuna.load_study(study_name="killed", storage=f"sqlite:///{sweep.folder}/study.db")
    told = {}
    for trial in study.get_trials():
        assert trial.state.is_finished(), f"attempt {trial.number} is {trial.state}"
        if trial.state == optuna.trial.TrialState.COMPLETE:
            assert trial.user_attrs["number"] not in told, "told twice"
            told[trial.user_attrs["number"]] = trial.value
    assert told == {trial["number"]: trial["value"] for trial in sweep.status().values()}


def assert_mlflow_agrees(sweep: KilledSweep) -> None:
    """One finished run per trial, none besides them and the parent, with its value."""
    from mlflow import MlflowClient

    sweep.sync()
    trials = sweep.status().values()
    client = MlflowClient(f"sqlite:///{sweep.home}/mlruns/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = {run.info.run_id: run for run in client.search_runs(experiments)}
    ids = {str(trial["mlflow_run_id"]) for trial in trials}
    parents = {run.data.tags["mlflow.parentRunId"] for run in runs.values() if run.info.run_id in ids}
    assert len(ids) == len(trials) and len(parents) == 1
    assert set(runs) == ids | parents
    for trial in trials:
        run = runs[str(trial["mlflow_run_id"])]
        assert run.info.status == "FINISHED"
        assert run.data.metrics["overcook/utility"] == pytest.approx(trial["value"], abs=1e-4)
        history = client.get_metric_history(run.info.run_id, "train/loss")
        assert len({point.step for point in history}) == len(history) == STEPS, "doubled or lost points"
