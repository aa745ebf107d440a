"""A real MLflow tracking server, and a real PostgreSQL under it, for tests and benchmarks: loopback only."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 180.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def server(
    folder: Path, port: int, *, backend: str | None = None, prefix: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """Serve from `folder` until the block ends, then be killed.

    Args:
        folder: database, artifacts and log.
        port: a free one.
        backend: a database other than SQLite.
        prefix: a path before everything, as behind a proxy.
    """
    command = [
        sys.executable, "-m", "mlflow", "server",
        "--backend-store-uri", backend or f"sqlite:///{folder}/server.db",
        "--artifacts-destination", str(folder / "artifacts"),
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        *(["--static-prefix", prefix] if prefix else []),
    ]  # fmt: skip
    with open(folder / "server.log", "ab") as log:
        env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes more
        process = subprocess.Popen(command, cwd=folder, env=env, start_new_session=True, stdout=log, stderr=log)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_S
    try:
        while time.monotonic() < deadline:
            try:
                opener.open(f"http://127.0.0.1:{port}{prefix}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.2)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def postgres_binaries() -> Path | None:
    """The folder with initdb and postgres; None when PostgreSQL is not installed."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((each for each in folders if (each / "initdb").exists()), None)


@contextmanager
def postgres() -> Iterator[str]:
    """Run a fresh PostgreSQL; yields the address of its database."""
    binaries, port = postgres_binaries(), free_port()
    assert binaries is not None
    # It refuses to run as root, and another user cannot look into pytest's folders.
    user = "nobody" if os.geteuid() == 0 else None
    data = Path(tempfile.mkdtemp(prefix="lorasweep-postgres-"))
    if user is not None:
        shutil.chown(data, user)
    log_file = data / "server.log"
    serve = [binaries / "postgres", "-D", data / "db", "-p", str(port), "-h", "127.0.0.1", "-k", data, "-F"]
    make = [binaries / "initdb", "-D", data / "db", "-U", "lorasweep", "--auth=trust", "--no-sync"]
    process = None
    try:
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=data, user=user)
        with open(log_file, "ab") as log:
            process = subprocess.Popen(serve, stdout=log, stderr=log, cwd=data, user=user)
        deadline = time.monotonic() + START_S
        while not _answers(port):
            assert process.poll() is None and time.monotonic() < deadline, log_file.read_text()
            time.sleep(0.2)
        yield f"postgresql+psycopg2://lorasweep@127.0.0.1:{port}/postgres"
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # fast shutdown
            process.wait(30)
        shutil.rmtree(data, ignore_errors=True)


def _answers(port: int) -> bool:
    import psycopg2

    try:
        psycopg2.connect(host="127.0.0.1", port=port, user="lorasweep", dbname="postgres").close()
    except psycopg2.OperationalError:
        return False
    return True
