"""MLflow's own UI over our store, on this machine only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from contextlib import suppress

import psutil

from lorasweep.core import paths
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.run_folder import MLFLOW_FILE
from lorasweep.results.tracking import address
from lorasweep.results.tracking.address import is_server, masked, tracking_uri, without_user
from lorasweep.results.tracking.push import read_state
from lorasweep.results.tracking.store import quieten
from lorasweep.results.tracking.view import page

DEFAULT_PORT = 5000
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(port: int | None = None, host: str = "127.0.0.1", *, open_browser: bool = False) -> int:
    """Serve MLflow's UI until interrupted; a store that is a server already is only pointed at.

    The port is 5000, or a free one when 5000 is taken; the host is of this machine's loopback, for MLflow has no
    passwords. Returns the exit code: 0 after Ctrl-C, otherwise the server's. Raises InputError when the host is not
    loopback, or the port is taken.
    """
    _check(host, port)
    uri = tracking_uri()
    if is_server(uri):
        _announce(without_user(uri).rstrip("/") + "/", uri, open_browser=open_browser, said="")
        return 0
    port = port or _free_port(host)
    quieten()
    url = f"http://{host}:{port}/"
    print(f"MLflow UI  starting on {url}", flush=True)
    # A session of its own: signals reach us alone, and we end the server and its workers together.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.default_int_handler)
    # The address goes by the environment, since everybody here can read a process's arguments.
    # MLflow's jobs judge language models: eight processes, of 160 MB each, that nothing here needs.
    quiet = {"PYTHONWARNINGS": "ignore", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment = {**quiet, **os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
    server = subprocess.Popen(
        _command(host, port), start_new_session=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    threading.Thread(target=_relay, args=(server,), name="ui-words", daemon=True).start()
    try:
        if _answers(url, server):
            _announce(url, uri, open_browser=open_browser)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(server)


def _announce(url: str, uri: str, *, open_browser: bool, said: str = "  (Ctrl-C stops it)") -> None:
    """Print where the UI is, with the page of each sweep that this store mirrors, the latest last."""
    pages = [url + page for page in _pages(uri)]
    print("\n".join(["", *pages, f"MLflow UI  {url}{said}"]), flush=True)
    if open_browser:
        webbrowser.open(pages[-1] if pages else url)


def _pages(uri: str) -> list[str]:
    """Return the saved views of the sweeps in our outputs that this store mirrors, the latest touched last."""
    mirrored = []
    for path in paths.outputs().glob(f"*/{MLFLOW_FILE}"):
        state = read_state(path)
        if state is not None and state.tracking_uri == masked(uri):
            mirrored.append((path.stat().st_mtime, page(state.experiment_id, path.parent.name, state.run_id)))
    return [address for _, address in sorted(mirrored)]


def _command(host: str, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--default-artifact-root", paths.mlruns().as_uri(), "--no-serve-artifacts"),
        *("--host", host, "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"),
    ]


def _check(host: str, port: int | None) -> None:
    problems = [wrong] if (wrong := address.address_problem(tracking_uri())) else []
    if host not in LOOPBACK:
        problems.append(
            Problem("host", f"must be this machine ({', '.join(LOOPBACK)}), got {host}", "to share it, use ssh -L")
        )
    elif port is not None and not is_free(host, port):
        problems.append(Problem("port", f"{port} is taken", "leave it out to get a free one"))
    if problems:
        raise InputError(problems, subject="ui")


def _free_port(host: str) -> int:
    if is_free(host, DEFAULT_PORT):
        return DEFAULT_PORT
    with socket.create_server((host, 0), family=_family(host)) as probe:
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen there."""
    try:
        with socket.create_server((host, port), family=_family(host)):
            return True
    except OSError:
        return False


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _relay(server: subprocess.Popen[bytes]) -> None:
    """Hand on what the server says, which may quote its database's address."""
    assert server.stdout is not None
    for line in server.stdout:
        print(masked(line.decode(errors="replace")), end="", file=sys.stderr, flush=True)


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    """Wait until the server answers, some 10 s or minutes on a busy machine; False when it ends instead."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy
    while server.poll() is None:
        try:
            with opener.open(f"{url}health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    return False


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server with everything it started."""
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(server.pid)
        members = [family, *family.children(recursive=True)]
        for member in members:
            with suppress(psutil.NoSuchProcess):
                member.terminate()
        for member in psutil.wait_procs(members, timeout=10)[1]:
            with suppress(psutil.NoSuchProcess):
                member.kill()
    server.wait()
