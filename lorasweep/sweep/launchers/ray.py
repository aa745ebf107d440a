"""Worker processes on the nodes of a Ray cluster, or of a Ray of this machine's own.

    loop  ->  RemoteMember  ->  _ActorLine  ->  _ray_bridge, a child process  ->  Ray  ->  _ray_actor  ->  Host

Ray finds the room and carries the calls; all else is as over ssh: `remote`. Knows nothing about ray itself.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.ranges import Text
from lorasweep.core.records import LauncherOptions
from lorasweep.sweep.launchers import FoundMachine, LaunchOptions
from lorasweep.sweep.remote.line import ANSWER_S, HostError, Line, LineLost
from lorasweep.sweep.remote.member import Gone, One, RemoteLauncher, Ship, Shipping, Slot, greet
from lorasweep.sweep.workers.pool import share_out

ELSEWHERE = True
CONNECT_S = 120.0  # for a local Ray to start on a busy machine
END_S = 10.0  # for a local Ray to end
LOOPBACK = ("127.", "localhost:", "[::1]:")
NO_RAY = Problem("launcher=ray", "needs ray, which is not installed", "pip install 'lorasweep[cluster]'")

Address = Annotated[
    str,
    Field(
        pattern=r"^(local|[A-Za-z0-9\[][\w.:\[\]-]*:\d+)$",
        title="be local, or HOST:PORT of the head; ray:// is refused: through Ray's client, workers outlive a driver",
        examples=["local"],
    ),
]
GpuShare = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What the launcher's knobs say."""

    address: str  # `local` or HOST:PORT
    gpus: float  # share of a GPU that a worker has
    gpu_type: str | None  # as Ray labels its nodes, such as A100; None: any
    home: str  # LORASWEEP_HOME on the nodes
    insecure: bool  # a cluster without token authentication will do


def build(
    options: LaunchOptions,
    *,
    address: Address,
    gpus: GpuShare,
    gpu_type: Text | None,
    home: Text,
    ship: Ship,
    ship_base: bool,
    insecure: bool,
    pack: One = 1,
) -> RayLauncher:
    """Make the launcher; entering it starts the workers."""
    cluster = Cluster(address=address, gpus=gpus, gpu_type=gpu_type, home=home, insecure=insecure)
    return RayLauncher(options, cluster, Shipping(ship=ship, ship_base=ship_base))


def where(launcher: LauncherOptions) -> str:
    """Tell what would run where; nobody is asked."""
    cluster = _cluster(launcher)
    share = ("" if cluster.gpus == 1 else f"{cluster.gpus:g} of one ") + (cluster.gpu_type or "GPU")
    each = f"{launcher.workers} workers, each with" if launcher.workers else "a worker for each"
    place = "a Ray of this machine's own" if cluster.address == "local" else f"the Ray cluster at {cluster.address}"
    return f"{each} {share}, or CPU core, of {place}; `lorasweep doctor` with the same launcher=... asks it"


def look(launcher: LauncherOptions) -> list[FoundMachine]:
    """Ask the cluster and each of its nodes."""
    cluster = _cluster(launcher)
    try:
        bridge = _Bridge(cluster, cpus=0)
    except ConfigError as error:
        return [FoundMachine(node=each.where, problem=each.message, hint=each.hint) for each in error.problems]
    with closing(bridge):
        nodes = bridge.nodes()
        gpus = sum(node["gpus"] for node in nodes)
        told = f"Ray {bridge.version}, {bridge.auth}; nodes: {len(nodes)}, GPUs: {gpus:g}"
        answers = greet([node["name"] for node in nodes], bridge.probe)
    return [FoundMachine(node=f"launcher.address={cluster.address}", told=told), *(found for _, _, found in answers)]


def _cluster(launcher: LauncherOptions) -> Cluster:
    others = ("ship", "ship_base", "pack")
    return Cluster(**{key: value for key, value in launcher.options.items() if key not in others})


class RayLauncher(RemoteLauncher):
    """A `Launcher` whose workers live where Ray finds room for them."""

    def __init__(self, options: LaunchOptions, cluster: Cluster, shipping: Shipping) -> None:
        """Take the knobs; `reach` starts the bridge."""
        super().__init__(options, (), lambda _: self._ask(), shipping, f"launcher.address={cluster.address} node")
        self._cluster = cluster
        self._bridge: _Bridge | None = None
        self._threads = 1
        self._gpus = 0.0

    def reach(self) -> None:
        """Connect, and compare every node's software with ours.

        Raises:
            ConfigError: with the cluster, or every node, that cannot be used.
        """
        if self._bridge is not None:
            return
        launcher = self._options.launcher
        cpus = (launcher.workers or 1) * (launcher.threads or 1)
        self._bridge = bridge = _Bridge(self._cluster, cpus=cpus, folder=self._options.log_folder)
        try:
            names = [node["name"] for node in self._with_room(bridge.nodes())]
            for line, _, _ in self._greet(names, bridge.probe) if names and self._cluster.address != "local" else ():
                if line is not None:
                    line.kill()
        except BaseException:
            bridge.close()
            raise

    def _with_room(self, nodes: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Return the nodes that can have a worker; decides on the workers, which may wait for nodes to come."""
        launcher, cluster = self._options.launcher, self._cluster
        fitting = [node for node in nodes if not cluster.gpu_type or node["gpu_type"] == cluster.gpu_type]
        with_gpus = [node for node in fitting if node["gpus"] >= cluster.gpus] if self._options.gpus_wanted else []
        needs_gpu = bool(with_gpus or (cluster.gpu_type and self._options.gpus_wanted))
        self._gpus = cluster.gpus if needs_gpu else 0.0
        room = with_gpus if needs_gpu else [node for node in nodes if node["cpus"] >= (launcher.threads or 1)]
        if not room and launcher.workers is None:
            what = f"a GPU of type {cluster.gpu_type}" if needs_gpu else f"{launcher.threads or 1} CPU cores"
            problem = Problem("launcher.address", f"no node has {what}", "launcher.workers=N waits for nodes to come")
            raise ConfigError(problem, subject="the nodes to train on")
        slots = sum(int(node["gpus"] / cluster.gpus + 1e-9) for node in room) if needs_gpu else 0
        cores = int(sum(node["cpus"] for node in room)) or 1
        workers, threads = share_out(launcher, gpus=slots, cores=cores, jobs=self.jobs)
        self._threads = threads if launcher.threads else max(1, min(threads, *(int(node["cpus"]) for node in room)))
        on_a_node = max((int(node["cpus"]) for node in room), default=1) // self._threads
        sharers = int(1 / cluster.gpus + 1e-9) if needs_gpu else max(1, min(workers, on_a_node))
        self._slots = [Slot("ray", number, None, "", self._threads, sharers, roams=True) for number in range(workers)]
        return room

    def _ask(self) -> _ActorLine:
        assert self._bridge is not None
        return self._bridge.line(cpus=self._threads, gpus=self._gpus)

    def waiting(self) -> str:
        """Count the workers for which Ray has found no room yet."""
        waiting = sum(member.place is None for member in self.members)
        return f"waiting for room on the cluster for {waiting} of {len(self.members)} workers" if waiting else ""

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._bridge is not None:
            self._bridge.close()


class _Bridge:
    """The driver's end of the process in which Ray lives."""

    def __init__(self, cluster: Cluster, *, cpus: int, folder: Path | None = None) -> None:
        """Start it and let it connect; `folder` is for its log.

        Raises:
            ConfigError: it cannot.
        """
        self.cluster = cluster
        self._numbers = itertools.count()
        at = f"launcher.address={cluster.address}"
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(NO_RAY, subject="the launcher")
        mode = _auth_mode(cluster, at)
        self.auth = "token authentication" if mode == "token" else "no authentication"
        self._folder = Path(tempfile.mkdtemp(prefix="ls"))  # of a local Ray's sockets, whose paths must be short
        (folder or self._folder).mkdir(parents=True, exist_ok=True)
        self.log = (folder or self._folder) / "ray.log"
        self.log.write_bytes(b"")  # of an earlier attempt nothing counts
        words = ["--address", cluster.address, "--auth", mode, "--cpus", str(cpus)]
        words += ["--folder", str(self._folder), "--log", str(self.log)]
        self.process = Line([sys.executable, "-m", "lorasweep.sweep.launchers._ray_bridge", *words])
        try:
            hello = self.process.hello(CONNECT_S)
        except LineLost as error:
            hello = {"problem": f"Ray did not start: {error}", "hint": f"see {self.log}"}
        if "problem" in hello:
            self.close()
            raise ConfigError(Problem(at, hello["problem"], hello["hint"]), subject="the cluster to train on")
        self.version = hello["ray"]

    def nodes(self) -> list[dict[str, Any]]:
        """Return name, cpus, gpus and gpu_type of every node."""
        found: list[dict[str, Any]] = self.process.call("nodes")[0]
        return found

    def line(self, *, cpus: float, gpus: float, node: str | None = None) -> _ActorLine:
        """Ask for an actor; raises `Gone` when Ray is."""
        line = _ActorLine(self, next(self._numbers))
        line.ask("start", home=self.cluster.home, cpus=cpus, gpus=gpus, gpu_type=self.cluster.gpu_type, node=node)
        return line

    def probe(self, node: str) -> _ActorLine:
        """Return an actor on a node, of which it takes no room."""
        return self.line(cpus=0, gpus=0, node=node)

    def close(self) -> None:
        """End it, and a local Ray with it."""
        self.process.hang_up()
        with suppress(subprocess.TimeoutExpired):
            self.process.process.wait(END_S)
        with suppress(ProcessLookupError):  # what Ray has left of itself
            os.killpg(self.process.process.pid, signal.SIGKILL)
        self.process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class _ActorLine:
    """A `Connection` to one host, by way of the bridge."""

    def __init__(self, bridge: _Bridge, actor: int) -> None:
        self._bridge, self._actor = bridge, actor
        self._released: Future[Any] | None = None

    def hello(self, timeout_s: float) -> Any:
        """Tell what the host says of itself, once Ray has found room for it, however long that takes."""
        return self.call("hello", timeout_s=None)[0]

    def call(
        self, method: str, data: bytes = b"", *, timeout_s: float | None = ANSWER_S, **arguments: Any
    ) -> tuple[Any, bytes]:
        """Call as `Line.call` does; raises `Gone` when Ray is."""
        told, found = self.ask("call", data, timeout_s=timeout_s, name=method, arguments=arguments)
        if "refused" in told:
            raise HostError(told["refused"])
        if "lost" in told:
            raise LineLost(told["lost"], starved=told.get("starved", False))
        return told["answer"], found

    def ask(self, method: str, data: bytes = b"", *, timeout_s: float | None = ANSWER_S, **arguments: Any) -> Any:
        """Call the bridge about this actor."""
        try:
            return self._bridge.process.call(method, data, timeout_s=timeout_s, actor=self._actor, **arguments)
        except LineLost as error:
            if not self._bridge.process.ended:
                raise
            at, log = self._bridge.cluster.address, self._bridge.log
            raise Gone(f"the Ray cluster at {at} is gone; {log} says more; the same command goes on") from error

    def hang_up(self) -> None:
        """Let the host tidy up and end."""
        self._released = self._tell("call", name="release", arguments={})

    def kill(self) -> None:
        """End the actor now, and its host with it."""
        self._tell("kill")

    @property
    def ended(self) -> bool:
        """Whether the host has ended after `hang_up`."""
        return self._released is None or self._released.done()

    def _tell(self, method: str, **arguments: Any) -> Future[Any] | None:
        with suppress(LineLost):
            return self._bridge.process.post(method, actor=self._actor, **arguments)
        return None


def _auth_mode(cluster: Cluster, at: str) -> str:
    """Tell whether Ray's calls carry a token, or why they need none.

    Raises:
        ConfigError: they would not, and others can reach the cluster.
    """
    if cluster.insecure and cluster.address != "local":
        return "disabled"
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    if cluster.address == "local" or os.environ.get("RAY_AUTH_TOKEN") or file.exists():
        return "token"
    if cluster.address.startswith(LOOPBACK):
        return "loopback"
    message = f"this machine has no token for the cluster, neither RAY_AUTH_TOKEN nor {file}"
    hint = "copy the head's ~/.ray/auth_token, see docs/clusters.md; a cluster without one: launcher.insecure=true"
    raise ConfigError(Problem(at, message, hint), subject="the cluster to train on")
