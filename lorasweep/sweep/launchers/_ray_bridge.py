"""The process of a driver in which Ray lives, so that its exits, signals and prints touch nothing else.

    python -m lorasweep.sweep.launchers._ray_bridge --address local|HOST:PORT ...   frames on standard input and output

The only importer of ray on the driver's machine. Actors are never restarted and their calls never repeated by Ray:
here they are, until it is certain that an actor is dead, since each may be called again. They are owned, so that they
end with this process, whatever becomes of it.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from lorasweep.sweep.remote.line import own_streams, serve, write_hello
from lorasweep.sweep.remote.member import NODE_GONE
from lorasweep.sweep.workers import stop
from lorasweep.sweep.workers.pool import cpu_cores

METHODS = frozenset(("nodes", "start", "call", "kill"))
GPU_TYPE = "ray.io/accelerator-type"
STORE_BYTES = 2**28  # of the object store of a local Ray, through which files travel in pieces
AGAIN_S, LOOK_S = 0.5, 1.0
CONNECT_S = 2  # for a head to answer, first at its port and then in Ray's words
# Of its calls at the same time, one waits for news and others may be repeats.
ONCE: Mapping[str, Any] = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": 8}
QUIET: Mapping[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "configure_logging": False}
SWITCHES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# Of a Ray that we start: every port on loopback, workers as urgent as those of launcher=local, and no second opinion
# beside the kernel's about who uses too much memory.
LOCAL_SWITCHES = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_worker_niceness": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_raylet_start_wait_time_s": "100",
}
TOKEN = "the token of the cluster is another one than that of this machine"
TOKEN_HINT = "put the cluster's into ~/.ray/auth_token or RAY_AUTH_TOKEN here"
OPEN = "the cluster was started without token authentication: whoever reaches it owns all of its nodes"
OPEN_HINT = "start every node with RAY_AUTH_MODE=token, see docs/clusters.md; or launcher.insecure=true"
# What Ray says when it does not connect, or of a dead actor; what that means, and the next step.
_REFUSALS = (
    ("InvalidAuthToken|Unauthenticated", TOKEN, TOKEN_HINT),
    ("Version mismatch|version .* does not match", "its Ray or Python is another one: {said}", "install the same ones"),
    (
        "node with|Can't find a .*node|not found.*raylet|local raylet|node_ip_address",
        "this machine is no node of the cluster",
        "make it one that trains nothing: ray start --address={address} --num-cpus=0 --num-gpus=0",
    ),
    ("Failed to connect to GCS", "what listens there does not answer as Ray does", "is it the head, and its port?"),
    ("timed out during startup", "Ray did not start in time", "is this machine busy?"),
    ("", "it cannot be reached: {said}", "is it running? ray start --head there, see docs/clusters.md"),
)
_DEATHS = (
    ("references to the actor were removed", f"{OPEN}; {OPEN_HINT}"),
    ("No module named '(lorasweep|ray)", "lorasweep is not installed there, for the Python that ran `ray start`"),
    ("node .*(died|dead|terminated|removed|preempted)|preempted", NODE_GONE),
    ("", "its process was killed"),
)


class Bridge:
    """Actors by the numbers that the driver gives them."""

    def __init__(self) -> None:
        """Watch which nodes are about to leave; Ray is connected."""
        self._actors: dict[int, Any] = {}
        self._node_of: dict[int, str] = {}
        self._names: dict[str, str] = {}
        self._leaving: set[str] = set()
        threading.Thread(target=self._watch, daemon=True).start()

    def nodes(self) -> list[dict[str, Any]]:
        """Tell what there is, by name."""
        import ray

        return [
            {
                "name": self._name(node),
                "cpus": node["Resources"].get("CPU", 0.0),
                "gpus": node["Resources"].get("GPU", 0.0),
                "gpu_type": node.get("Labels", {}).get(GPU_TYPE, ""),
            }
            for node in ray.nodes()
            if node["Alive"]
        ]

    def start(self, actor: int, home: str, cpus: float, gpus: float, gpu_type: str | None, node: str | None) -> None:
        """Ask for an actor, on a node or wherever there is room; it is not there yet."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from lorasweep.sweep.launchers._ray_actor import Actor

        named = {name: node_id for node_id, name in self._names.items()}
        where: Any = "SPREAD" if node is None else NodeAffinitySchedulingStrategy(named[node], soft=False)
        self._actors[actor] = (
            ray.remote(Actor)
            .options(
                **ONCE,
                num_cpus=cpus,
                num_gpus=gpus,
                label_selector={GPU_TYPE: gpu_type} if gpu_type and gpus else None,
                scheduling_strategy=where,
            )
            .remote(home)
        )

    def call(self, actor: int, name: str, arguments: Mapping[str, Any], data: bytes = b"") -> tuple[Any, bytes]:
        """Call an actor until it is certain whether it lives; what `Actor.call` answers."""
        import ray
        from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayError

        while actor in self._actors:
            try:
                told, found = ray.get(self._actors[actor].call.remote(name, arguments, data))
            except ActorUnavailableError:
                time.sleep(AGAIN_S)
            except RayError as error:
                print(error)
                starved = isinstance(error, OutOfMemoryError)
                why = "Ray killed it for want of memory" if starved else _first(_DEATHS, str(error))[1]
                return {"lost": why, "starved": starved}, b""
            else:
                self._complete(actor, name, told.get("answer"))
                return told, found
        return {"lost": "it was ended"}, b""

    def kill(self, actor: int) -> None:
        """End an actor, or no longer ask for it."""
        import ray

        if (handle := self._actors.pop(actor, None)) is not None:
            with suppress(Exception):  # it is dead already
                ray.kill(handle)

    def _complete(self, actor: int, name: str, answer: Any) -> None:
        if name == "hello" and answer:
            self._node_of[actor] = answer["node_id"]
            self.nodes()
            answer["node"] = self._names.get(answer["node_id"], answer["node"])
        if name == "take" and answer:
            answer["leaving"] = self._node_of.get(actor) in self._leaving

    def _name(self, node: Mapping[str, Any]) -> str:
        """Return its host name, made different where nodes share one."""
        node_id, host = node["NodeID"], node["NodeManagerHostname"]
        if node_id not in self._names:
            self._names[node_id] = f"{host}-{node_id[:4]}" if host in self._names.values() else host
        return self._names[node_id]

    def _watch(self) -> None:
        """Notice nodes that drain; there is no public call for it, and Ray's own trainer asks the same way."""
        from ray._private.state import state

        while True:
            with suppress(Exception):
                self._leaving = set(state.get_draining_nodes())
            time.sleep(LOOK_S)


def main() -> None:
    """Connect, and serve one driver until it hangs up."""
    parser = argparse.ArgumentParser(prog="python -m lorasweep.sweep.launchers._ray_bridge")
    parser.add_argument("--address", required=True)
    parser.add_argument("--auth", choices=("token", "loopback", "disabled"), required=True)
    parser.add_argument("--cpus", type=int, default=0, help="that a local Ray has at least")
    parser.add_argument("--folder", type=Path, required=True, help="of a local Ray, with a short path")
    parser.add_argument("--log", type=Path, required=True)
    options = parser.parse_args()
    stop.ignore()
    source, sink = own_streams(options.log)
    os.environ.pop("RAY_ADDRESS", None)
    os.environ |= {**SWITCHES, "RAY_AUTH_MODE": "token" if options.auth == "token" else "disabled"}
    connected = threading.Event()
    threading.Thread(target=_refuse_soon, args=(options, sink, connected), daemon=True).start()
    try:
        hello = _connect(options)
        connected.set()
        serve(None if "problem" in hello else Bridge(), METHODS, hello, source, sink, waits=METHODS)
        with suppress(Exception):
            import ray

            ray.shutdown()
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
        os._exit(0)  # threads of calls may wait for ever


def _connect(options: argparse.Namespace) -> dict[str, str]:
    arguments: dict[str, Any] = {"address": options.address}
    if options.address != "local":
        host, _, port = options.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        except OSError as error:
            return _refusal(options.address, error.strerror or "it does not answer")
        os.environ["RAY_gcs_rpc_server_connect_timeout_s"] = str(CONNECT_S)
    else:
        cores = max(options.cpus, cpu_cores())
        os.environ |= {**LOCAL_SWITCHES, "RAY_TMPDIR": str(options.folder), "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        arguments |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    import ray

    try:
        ray.init(**arguments, **QUIET)
    except Exception as error:
        print(error)
        return _refusal(options.address, f"{error} {error.__cause__ or ''}")
    addresses = [node["NodeManagerAddress"] for node in ray.nodes()]
    if options.auth == "loopback" and not all(address.startswith(("127.", "::1")) for address in addresses):
        return {"problem": OPEN, "hint": OPEN_HINT}
    return {"ray": ray.__version__}


def _refuse_soon(options: argparse.Namespace, sink: IO[bytes], connected: threading.Event) -> None:
    """Tell why Ray cannot connect to a head when it first says so: it tries for two minutes before it gives up."""
    while options.address != "local" and not connected.wait(0.1):
        said = re.search("InvalidAuthToken|Failed to connect to GCS", options.log.read_text(errors="replace"))
        if said:
            write_hello(sink, _refusal(options.address, said[0]))
            os._exit(1)


def _refusal(address: str, said: str) -> dict[str, str]:
    _, problem, hint = _first(_REFUSALS, said)
    words = {"address": address, "said": said.strip().partition("\n")[0][:200]}
    return {"problem": problem.format(**words), "hint": hint.format(**words)}


def _first(meanings: Any, said: str) -> Any:
    return next(each for each in meanings if re.search(each[0], said))


if __name__ == "__main__":
    main()
