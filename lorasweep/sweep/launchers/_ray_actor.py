"""The actor that Ray starts on a node: it passes calls on to a `Host` in a process of its own, and trains nothing.

Ray's own processes are poor parents: they kill without a word, have threads where a worker wants the main one, and
set variables of their own. So this only holds the line, and its end is the host's end. Every method may be called
again. Ray imports this module on the nodes, where lorasweep is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lorasweep.sweep.remote.line import WORK_S, HostError, Line, LineLost
from lorasweep.sweep.remote.member import HELLO_S, LEAVE_S

# Ray kills an actor's children with it. The host is none: it hears that its line ended, and leaves nothing behind.
GRANDCHILD = ("sh", "-c", '"$@"; exit $?', "sh")
Answer = tuple[dict[str, Any], bytes]  # {"answer": ...}, {"refused": why} or {"lost": why}


class Actor:
    """One host on this node."""

    def __init__(self, home: str) -> None:
        """Start it; `home` is LORASWEEP_HOME here."""
        import ray

        if not ray.get_gpu_ids():  # Ray sets the variable only for those who have some
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._node = ray.get_runtime_context().get_node_id()
        self._line = Line([*GRANDCHILD, sys.executable, "-m", "lorasweep.sweep.remote.host", "--home", home])

    def call(self, method: str, arguments: Mapping[str, Any], data: bytes) -> Answer:
        """Call a method of the host; `hello` and `release` are this actor's own."""
        try:
            if method == "hello":
                return {"answer": {**self._line.hello(HELLO_S), "node_id": self._node}}, b""
            if method == "release":
                self._line.hang_up()
                with suppress(subprocess.TimeoutExpired):
                    self._line.process.wait(LEAVE_S)
                return {"answer": None}, b""
            answer, found = self._line.call(method, data, timeout_s=WORK_S, **arguments)
        except HostError as error:
            return {"refused": str(error)}, b""
        except LineLost as error:
            return {"lost": str(error)}, b""
        return {"answer": answer}, found
