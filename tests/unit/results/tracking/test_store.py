"""Where the store is, and how it is made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lorasweep.results.tracking.address import sqlite_file, tracking_uri
from lorasweep.results.tracking.store import StoreUnavailable, open_store


def test_the_database_lies_in_the_home_unless_the_environment_says_otherwise(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sqlite_file(tracking_uri()) == home / "mlruns" / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere:5000")
    assert tracking_uri() == "http://somewhere:5000"
    assert sqlite_file(tracking_uri()) is None


def test_artifacts_lie_beside_the_database(store_home: Path) -> None:
    store = open_store("my project")
    experiment = store.client.get_experiment(store.experiment_id)
    assert experiment.artifact_location == (store_home / "mlruns" / "my-project").as_uri()
    assert open_store("my project").experiment_id == store.experiment_id


def test_processes_that_meet_a_fresh_database_agree(home: Path) -> None:
    code = "from lorasweep.results.tracking.store import open_store; print(open_store('lorasweep').experiment_id)"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert len({stdout for stdout, _ in said}) == 1


def test_a_folder_as_address_is_refused_with_the_way_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{home}/mlruns")
    with pytest.raises(StoreUnavailable, match="sqlite:///"):
        open_store("lorasweep")


def test_a_deleted_experiment_is_explained(store_home: Path) -> None:
    store = open_store("lorasweep")
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(StoreUnavailable, match="mlflow experiments restore"):
        open_store("lorasweep")


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_a_database_that_was_cut_short_is_told_with_what_to_do(store_home: Path, keep: float) -> None:
    database = store_home / "mlruns" / "mlflow.db"
    whole = database.read_bytes()
    database.write_bytes(whole[: int(keep * len(whole))] or b"no database" * 100)
    with pytest.raises(StoreUnavailable, match="move it away.*lorasweep sync"):
        open_store("lorasweep")


def test_a_moved_home_is_explained(
    store_home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow keeps absolute artifact paths: without the check, artifacts would go to the old place."""
    open_store("lorasweep")
    moved = tmp_path_factory.mktemp("elsewhere") / "home"
    store_home.rename(moved)
    monkeypatch.setenv("LORASWEEP_HOME", str(moved))
    with pytest.raises(StoreUnavailable, match="was moved.*lorasweep sync"):
        open_store("lorasweep")
