"""Where MLflow keeps its runs, and a client for it that fails fast.

Our own store is <home>/mlruns/mlflow.db, with artifacts in <home>/mlruns/<experiment>/. Opening a store makes
what is missing (database, tables, experiment) under a file lock: MLflow's own set-up is not safe when several
processes meet a fresh database. Knows nothing about sweeps.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from lorasweep.core import paths
from lorasweep.core.errors import LorasweepError
from lorasweep.results.tracking.address import address_problem, is_server, masked, sqlite_file, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

# MLflow retries a dead server for four minutes; the next sync tries again anyway. Set values are respected.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # s
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # `sync --json` prints JSON and nothing else
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_UV_AUTO_DETECT": "false",  # a model takes no pyproject.toml of the folder where somebody stands
    "GIT_PYTHON_REFRESH": "quiet",
}
_EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # training runs, not GenAI traces
    "mlflow.note.content": "LoRA recipes cooked by lorasweep. One parent run per sweep; the Views menu, top "
    "right, has a ranked table and the samples of each. (Nothing here? Choose *Model training*, top left.)",
}
_NO_MLFLOW = "what answers there is no MLflow server"
# What libraries say, and what it means in words.
_REASONS = {
    r"error code 401": "it wants to know who you are (401): set MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
    r"error code 403": "it refuses (403): this user may not, or the server does not know the address's host",
    r"error code 404": "nothing of MLflow's is there (404): is a path missing after the port?",
    r"error code 3\d\d": "it sends elsewhere: give the address that it sends to, perhaps with https://",
    r"error code 413": "it takes no files as large as ours (413): a limit of it or of a proxy before it",
    r"error code 429|too many 429": "it is asked too often (429): lorasweep sync later",
    r"error code 5\d\d|too many 5\d\d": "it fails inside (5xx): its own log says why",
    r"Expecting value: line|valid JSON|JSONDecodeError": _NO_MLFLOW,
    r"Connection refused": "nobody listens there",
    r"Connection aborted|Connection reset": "it breaks the connection off",
    r"[Tt]imed? ?out": "it does not answer in time",
    r"image is malformed|not a database": "it is damaged: move it away, and fill another one from the run folders "
    "with: lorasweep sync",
    r"NameResolutionError|Failed to resolve": "there is no host of that name",
}
_LOCKED_AFTER_S = 5.0  # how long SQLite waits for another writer before we call the database locked


class StoreUnavailable(LorasweepError):
    """The MLflow store cannot be used now; nothing is lost, the run folders hold everything."""


@dataclass(frozen=True)
class Store:
    """An open store and the experiment that runs go to."""

    client: MlflowClient
    uri: str  # secrets included: never shown or written down, `shown` is
    experiment_id: str
    database: tuple[int, int] | None = None  # device and inode of a SQLite file when it was opened

    @property
    def shown(self) -> str:
        """The address for people and files."""
        return masked(self.uri)

    def require_same(self) -> None:
        """Check that the database is still the file that was opened: SQLite goes on writing to a deleted one.

        Raises:
            StoreUnavailable: it was removed or replaced, which only another process can get over.
        """
        if self.database != _database_id(self.uri):
            raise StoreUnavailable(f"the MLflow store {self.shown} was removed or replaced while it was in use")

    def require_alive(self) -> None:
        """Ask the store for something small; raises StoreUnavailable when it does not answer."""
        with _explained(self.uri):
            self.client.get_experiment(self.experiment_id)


def open_store(experiment: str) -> Store:
    """Open the store of the project's experiment; database, tables and experiment are made when missing.

    Raises:
        StoreUnavailable: it cannot be reached or written; the message says which store, why, and what to do.
    """
    uri = tracking_uri()
    quieten()
    if wrong := address_problem(uri):
        raise StoreUnavailable(str(wrong))
    with _explained(uri), _one_at_a_time(uri):
        if (database := sqlite_file(uri)) is not None:
            _require_writable(database)
        from mlflow import MlflowClient
        from mlflow.store.db import utils

        utils.MAX_RETRY_COUNT = 1  # a wrong password or a closed port would be tried for 100 s
        client = MlflowClient(tracking_uri=uri)
        return Store(client, uri, _experiment(client, uri, experiment), _database_id(uri))


def require_server(uri: str) -> None:
    """Ask a tracking server for something small, as whom the environment says, and change nothing there.

    Raises:
        StoreUnavailable: it does not answer, refuses, or is no MLflow server.
    """
    quieten()
    with _explained(uri):
        from mlflow import MlflowClient

        _find(MlflowClient(tracking_uri=uri), uri, "Default")


def quieten() -> None:
    """Set MLflow's environment for this process, before it is imported: fail fast, phone nobody."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    os.environ.pop("MLFLOW_RUN_ID", None)  # somebody else's active run


def _database_id(uri: str) -> tuple[int, int] | None:
    database = sqlite_file(uri)
    if database is None or not database.exists():
        return None
    stat = database.stat()
    return stat.st_dev, stat.st_ino


def _find(client: MlflowClient, uri: str, name: str) -> Experiment | None:
    found = client.get_experiment_by_name(name)
    if found is not None and not found.experiment_id:  # JSON, but not MLflow's
        raise StoreUnavailable(f"the MLflow store {masked(uri)} cannot be used: {_NO_MLFLOW}")
    return found


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    folder = (paths.mlruns() / re.sub(r"[^A-Za-z0-9._-]+", "-", name)).as_uri()
    location = None if is_server(uri) else folder  # a server decides for itself
    if (found := _find(client, uri, name)) is None:
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=_EXPERIMENT_TAGS))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was faster, on a server
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise StoreUnavailable(
            f"experiment `{name}` was deleted in MLflow. Restore it: "
            f"MLFLOW_TRACKING_URI={masked(uri)} mlflow experiments restore -x {found.experiment_id}"
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


def _one_at_a_time(uri: str) -> AbstractContextManager[object]:
    """Lock beside the database, so that one process at a time makes its tables; dies with its holder."""
    if (database := sqlite_file(uri)) is None:
        return nullcontext()
    database.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(database.parent / f".{database.name}.lock")


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn what MLflow, SQLite and the file system raise into one error with one sentence."""
    try:
        yield
    except StoreUnavailable:
        raise
    except Exception as error:  # MLflow lets through whatever its back ends raise
        raise StoreUnavailable(f"the MLflow store {masked(uri)} cannot be used: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return what a library raised, in words and with the next step where it is known."""
    said = str(error).strip()
    for pattern, words in _REASONS.items():
        if re.search(pattern, said):
            return words
    return masked(said.splitlines()[0] if said else type(error).__name__)[:300]
