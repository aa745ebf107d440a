"""The fake sweep, loaded by path because test folders are no packages, and ways to look into MLflow."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lorasweep.results.tracking.address import tracking_uri
from lorasweep.results.tracking.store import quieten

# Before any test imports mlflow.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tracking_{name}", Path(__file__).parent / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


_fakes = _load("fake_sweep")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables without content: making them takes seconds, copying them none."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store_home(home: Path, empty_database: Path) -> Path:
    """A home whose MLflow store has its tables already."""
    (home / "mlruns").mkdir()
    shutil.copy(empty_database, home / "mlruns" / "mlflow.db")
    return home


@pytest.fixture
def fakes() -> ModuleType:
    return _fakes


@pytest.fixture
def make_sweep(store_home: Path) -> Callable[..., Any]:
    """make_sweep(name, **options): a FakeSweep that is over; with `cooked=False`, one that is declared."""

    def make(name: str = "quickstart", *, cooked: bool = True, **options: Any) -> Any:
        folder = store_home / "outputs" / name
        if cooked:
            return _fakes.write_sweep(folder, **options)
        return _fakes.FakeSweep(folder, **options).declare()

    return make


class Holdings:
    """What the store holds, in the terms of the tests."""

    def __init__(self) -> None:
        quieten()
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=tracking_uri())
        experiment = self.client.get_experiment_by_name("lorasweep")
        assert experiment is not None
        self.experiment = experiment
        self.runs = self.client.search_runs([experiment.experiment_id], max_results=500)

    @property
    def parent(self) -> Any:
        (parent,) = [run for run in self.runs if "mlflow.parentRunId" not in run.data.tags]
        return parent

    @property
    def children(self) -> dict[str, Any]:
        """Runs of trials by run folder; fails when two mirror the same one."""
        found: dict[str, Any] = {}
        for run in self.runs:
            if "mlflow.parentRunId" in run.data.tags:
                name = run.data.tags["lorasweep.trial"]
                assert name not in found, f"two runs mirror {name}"
                found[name] = run
        return found

    def history(self, run: Any, key: str) -> list[tuple[int, float]]:
        metrics = self.client.get_metric_history(run.info.run_id, key)
        return sorted((metric.step, metric.value) for metric in metrics)

    def artifacts(self, run: Any, folder: str = "") -> list[str]:
        listed = self.client.list_artifacts(run.info.run_id, folder or None)
        return sorted(Path(entry.path).name for entry in listed)

    def pictures(self, run: Any) -> list[tuple[str, int]]:
        """(key, step) of every full picture among the run's images, with repetitions."""
        names = [name.split("+") for name in self.artifacts(run, "images") if name.endswith(".png")]
        return sorted((name[0], int(name[2])) for name in names)


@pytest.fixture
def holdings() -> Callable[[], Holdings]:
    return Holdings
