"""Where MLflow keeps its runs, and a client for it that fails fast.

    MLFLOW_TRACKING_URI, else sqlite:///<home>/mlruns/mlflow.db with artifacts in <home>/mlruns/<experiment>/

Opening a store makes what is missing (database, tables, experiment) under a file lock: MLflow's own set-up
is not safe when several processes meet a fresh database. Knows nothing about sweeps.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lorasweep import paths
from lorasweep.errors import LorasweepError

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow retries a dead server for four minutes; the next sync tries again anyway. Set values are respected.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # s
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # `sync --json` prints JSON and nothing else
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}
_EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # training runs, not GenAI traces
    "mlflow.note.content": "LoRA recipes cooked by lorasweep. One parent run per sweep; the Views menu, top "
    "right, has a ranked table and the samples of each. (Nothing here? Choose *Model training*, top left.)",
}
_LOCKED_AFTER_S = 5.0  # how long SQLite waits for another writer before we call the database locked


class StoreUnavailable(LorasweepError):
    """The MLflow store cannot be used now; nothing is lost, the run folders hold everything."""


@dataclass(frozen=True)
class Store:
    """An open store and the experiment that runs go to."""

    client: MlflowClient
    uri: str
    experiment_id: str
    database: tuple[int, int] | None = None  # device and inode of a SQLite file when it was opened

    def require_same(self) -> None:
        """Check that the database is still the file that was opened: SQLite goes on writing to a deleted one.

        Raises:
            StoreUnavailable: it was removed or replaced, which only another process can get over.
        """
        if self.database != _database_id(self.uri):
            raise StoreUnavailable(f"the MLflow store {self.uri} was removed or replaced while it was in use")

    def require_alive(self) -> None:
        """Ask the store for something small.

        Raises:
            StoreUnavailable: it does not answer.
        """
        with _explained(self.uri):
            self.client.get_experiment(self.experiment_id)


def tracking_uri() -> str:
    """The store's address."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{paths.mlruns() / 'mlflow.db'}"


def is_server(uri: str) -> bool:
    """Whether the address is that of a tracking server rather than of a database."""
    return urlsplit(uri).scheme in ("http", "https")


def artifact_root() -> Path:
    """Where the artifacts of a local store lie, a folder per experiment."""
    return paths.mlruns()


def open_store(experiment: str) -> Store:
    """Open the store; database, tables and experiment are made when missing.

    Args:
        experiment: MLflow's experiment, one per project.

    Raises:
        StoreUnavailable: it cannot be reached or written; the message says which store, why, and what to do.
    """
    uri = tracking_uri()
    quieten()
    if urlsplit(uri).scheme in ("", "file"):
        raise StoreUnavailable(
            f"MLFLOW_TRACKING_URI={uri} is a folder, which MLflow no longer writes to. "
            f"Use a database, e.g. MLFLOW_TRACKING_URI=sqlite:///{paths.mlruns() / 'mlflow.db'}, or unset it."
        )
    with _explained(uri), _one_at_a_time(uri):
        if (database := sqlite_file(uri)) is not None:
            _require_writable(database)
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        return Store(client, uri, _experiment(client, uri, experiment), _database_id(uri))


def quieten() -> None:
    """Set MLflow's environment for this process, before it is imported: fail fast, phone nobody."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    os.environ.pop("MLFLOW_RUN_ID", None)  # somebody else's active run


def sqlite_file(uri: str) -> Path | None:
    """The file behind a `sqlite:///` address; None for any other store."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _database_id(uri: str) -> tuple[int, int] | None:
    database = sqlite_file(uri)
    if database is None or not database.exists():
        return None
    stat = database.stat()
    return stat.st_dev, stat.st_ino


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    folder = (artifact_root() / re.sub(r"[^A-Za-z0-9._-]+", "-", name)).as_uri()
    location = None if is_server(uri) else folder  # a server decides for itself
    if (found := client.get_experiment_by_name(name)) is None:
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=_EXPERIMENT_TAGS))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was faster, on a server
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise StoreUnavailable(
            f"experiment `{name}` was deleted in MLflow. Restore it: "
            f"MLFLOW_TRACKING_URI={uri} mlflow experiments restore -x {found.experiment_id}"
        )
    if "MLFLOW_TRACKING_URI" not in os.environ and found.artifact_location != location:
        raise StoreUnavailable(
            f"the MLflow store was moved: it keeps its artifacts in {found.artifact_location}, not in "
            f"{location}. "
            f"Delete {paths.mlruns() / 'mlflow.db'} and rebuild it from the run folders with: lorasweep sync"
        )
    return str(found.experiment_id)


def _require_writable(database: Path) -> None:
    """Take and drop SQLite's write lock; MLflow itself would retry a database it cannot open for minutes."""
    with closing(sqlite3.connect(database, timeout=_LOCKED_AFTER_S, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")


@contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Hold a lock beside the database, so that one process at a time makes its tables."""
    database = sqlite_file(uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with open(database.parent / f".{database.name}.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # dies with its holder
        yield


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn what MLflow, SQLite and the file system raise into one error with one sentence."""
    try:
        yield
    except StoreUnavailable:
        raise
    except Exception as error:  # MLflow lets through whatever its back ends raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise StoreUnavailable(f"the MLflow store {uri} cannot be used: {reason[:300]}") from error
