"""Ray for tests: one of the driver's own, and clusters of several nodes that are all this machine.

A node is what `ray start --block` starts, in a session of its own, so that all of it can be killed. `PRETEND_NODE`
says which one a worker is on. Nothing here imports ray.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from ssh_machines import KITCHEN
from wire import Wire

from lorasweep.core.records import LauncherOptions

TOKEN = "a token for tests, which is as long as one of Ray's own"
START_S = 90.0
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed: make test-cluster installs and runs it"
)


def options(home: Path, *, workers: int | None = 2, **more: Any) -> LauncherOptions:
    own = {"address": "local", "gpus": 1.0, "gpu_type": None, "home": str(home)}
    own |= {"ship": "state", "ship_base": False, "insecure": False}
    common = {key: more.pop(key) for key in list(more) if key not in own}
    return LauncherOptions(name="ray", workers=workers, options={**own, **more}, **common)


def words(launcher: LauncherOptions) -> list[str]:
    """The same as one types it."""
    typed = {**launcher.options, "workers": launcher.workers}
    return ["launcher=ray", *(f"launcher.{key}={'null' if value is None else value}" for key, value in typed.items())]


@contextmanager
def own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LauncherOptions]:
    """A Ray that the launcher starts itself."""
    monkeypatch.setenv("PYTHONPATH", str(KITCHEN))
    monkeypatch.setenv("PRETEND_NODE", socket.gethostname())
    yield options(folder / "their home")


class Cluster:
    """A head without room for workers, and nodes with some."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        auth: str = "token",
        at: Sequence[str] = (),
        **switches: str,
    ) -> None:
        self.home = folder / "their home"
        self._logs = folder / "ray"
        self._logs.mkdir(parents=True)
        self._folder = tempfile.mkdtemp(prefix="rt")  # a short path
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
        switched = {f"RAY_{name}": value for name, value in switches.items()}
        self._environment = {
            **os.environ,
            **{"RAY_TMPDIR": self._folder, "RAY_AUTH_MODE": auth, "RAY_USAGE_STATS_ENABLED": "0"},
            **{"RAY_worker_niceness": "0", "PYTHONPATH": str(KITCHEN), **switched},
        }
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.start("head", f"--port={port}", "--include-dashboard=false", *at, cpus=0)
        self.address = self._said("head", "--address='").partition("'")[0]

    def start(
        self, name: str, *more: str, cpus: int = 1, gpus: int = 0, cable: Wire | None = None, **switches: str
    ) -> None:
        """Start a node; at the end of a cable, if one is given."""
        where = ("--head",) if name == "head" else (f"--address={self.address}",)
        room = (f"--num-cpus={cpus}", f"--num-gpus={gpus}", "--object-store-memory=100000000")
        ports = ("--min-worker-port=0", "--max-worker-port=0")
        switched = {key if key.isupper() else f"RAY_{key}": value for key, value in switches.items()}
        ray = [*(cable.command if cable else ()), str(Path(sys.executable).with_name("ray"))]
        with open(self._logs / name, "wb") as log:
            self._nodes[name] = subprocess.Popen(
                [*ray, "start", "--block", *where, *room, *ports, *more],
                env={**self._environment, **switched, "PRETEND_NODE": name},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._said(name, "Ray runtime started.")

    @property
    def names(self) -> list[str]:
        return list(self._nodes)

    def options(self, **more: Any) -> LauncherOptions:
        return options(self.home, **{"address": self.address, **more})

    def processes(self, name: str) -> list[psutil.Process]:
        """All of a node's: they share its session, but for hosts and what they start."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self._nodes[name].pid:
                    found.append(process)
        return [*found, *(inner for each in found for inner in _children(each) if inner not in found)]

    def kill(self, name: str) -> None:
        """As a power cut."""
        for process in self.processes(name):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._nodes.pop(name).wait()

    def kill_process(self, name: str, command: str) -> None:
        """One process of a node, by what its command begins with."""
        for process in self.processes(name):
            with suppress(psutil.Error):
                if command in " ".join(process.cmdline()[:1]):
                    process.kill()

    def terminate(self, name: str) -> None:
        """As a spot notice, or the deletion of a pod."""
        self._nodes[name].send_signal(signal.SIGTERM)

    def close(self) -> None:
        """End every node."""
        for name in list(self._nodes):
            self.kill(name)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _said(self, name: str, words: str) -> str:
        """What a node has printed after some words, once it has."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            before, found, after = (self._logs / name).read_text(errors="replace").partition(words)
            if found:
                return after
            assert self._nodes[name].poll() is None, before
            time.sleep(0.1)
        raise TimeoutError(before)


@contextmanager
def cluster(folder: Path, monkeypatch: pytest.MonkeyPatch, *, nodes: int = 2, **more: Any) -> Iterator[Cluster]:
    """Nodes called node1, node2 ..., of one core each."""
    made = Cluster(folder, monkeypatch, **more)
    try:
        for number in range(1, nodes + 1):
            made.start(f"node{number}")
        yield made
    finally:
        made.close()


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
