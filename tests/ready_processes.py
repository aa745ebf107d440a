"""Processes that start where the imports are done: forked by a server, which has imported and done nothing else.

All else is a process's own: environment, signals, memory, death. How Python starts and what it imports is not shown.
Where there is no Linux they start in the usual way.
"""

from __future__ import annotations

import io
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import context, forkserver, process
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest  # which takes a process that is started here longer than a trial that is pretended

LINUX = sys.platform == "linux"
PATIENCE_S = 300.0
IMPORTED = [
    *("lorasweep.sweep.workers.worker", "lorasweep.sweep.driver", "lorasweep.sweep.single"),
    *("lorasweep.cli.plan_commands", "lorasweep.cli.plan_view.tables", "lorasweep.api.training", "lorasweep.plan.make"),
    *("lorasweep.plan.dollhouse_dataset", "lorasweep.dollhouse.world", "lorasweep.results.runs"),
    *("lorasweep.components.bases.dollhouse", "lorasweep.components.adapters.lora", "alembic.migration"),
    *("ready_processes", "optuna_migrations"),  # beside this file
]
TO_TRAIN = [
    *("torch._dynamo", "lorasweep.trial.run", "lorasweep.trial.train.loop", "lorasweep.trial.judge.probe_builder"),
    *("lorasweep.trial.judge.encoders.local", "lorasweep.components.adapters._peft"),
    "lorasweep.components.bases._unet",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
]


def _server(modules: list[str]) -> forkserver.ForkServer:
    """It starts when it is first asked for a process, and ends with this one."""
    server = forkserver.ForkServer()
    server.set_forkserver_preload(modules)
    return server


class ReadyProcess(context.ForkServerProcess if LINUX else object):  # type: ignore[misc]
    """As of `multiprocessing`, with the environment of whoever starts it, and the signals that it blocks."""

    server = _server(IMPORTED)

    @classmethod
    def _Popen(cls, started: Any) -> Any:
        from multiprocessing import popen_forkserver

        started.environment = dict(os.environ)
        if cls.server._forkserver_pid is None:
            os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # it imports what is beside this file as well
            cls.server.ensure_running()
            del os.environ["PYTHONPATH"]
            os.environ.update(started.environment)
        started.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        usual, forkserver.connect_to_new_process = forkserver.connect_to_new_process, cls.server.connect_to_new_process
        try:
            return popen_forkserver.Popen(started)
        finally:
            forkserver.connect_to_new_process = usual

    def run(self) -> None:
        os.environ.clear()
        os.environ.update(self.environment)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.blocked)
        super().run()


class TrainingProcess(ReadyProcess):
    """The same, with torch and what else a trial imports."""

    server = _server([*IMPORTED, *TO_TRAIN])


def start_ready(patch: pytest.MonkeyPatch, module: ModuleType, kind: type[ReadyProcess] = ReadyProcess) -> None:
    """Have a module of lorasweep or of benchmarks/ start such processes where it starts Python anew."""
    if LINUX:
        made = type("Context", (context.ForkServerContext,), {"Process": kind})
        patch.setattr(module, "multiprocessing", SimpleNamespace(get_context=lambda method: made()))


class Script:
    """What tests use of `subprocess.Popen`."""

    def __init__(self, script: Path, *words: str) -> None:
        self._process = ReadyProcess(target=_run_script, args=(str(script), words))
        self._process.start()
        process._children.discard(self._process)  # nobody waits for it when pytest ends
        self.pid = self._process.pid
        self.kill = self._process.kill

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        self._process.join(timeout_s)
        code = self._process.exitcode
        assert code is not None, f"it has not ended within {timeout_s:g} s"
        return code


def start_script(script: Path, *words: str) -> Script | subprocess.Popen[bytes]:
    """Start one in a session of its own."""
    if LINUX:
        return Script(script, *words)
    return subprocess.Popen([sys.executable, str(script), *words], start_new_session=True)


def _run_script(script: str, words: Sequence[str]) -> None:
    os.setsid()
    sys.argv = [script, *words]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")


def run_module(
    name: str,
    *words: str,
    environment: Mapping[str, str],
    path: Sequence[Path] = (),
    trains: bool = False,
) -> subprocess.CompletedProcess[bytes]:
    """`python -m NAME WORDS` with `path` as PYTHONPATH; returns its code, output and errors."""
    if not LINUX:
        more = {"PYTHONPATH": os.pathsep.join(map(str, path))} if path else {}
        line = [sys.executable, "-m", name, *words]
        return subprocess.run(line, env={**os.environ, **environment, **more}, capture_output=True, timeout=PATIENCE_S)
    kind = TrainingProcess if trains else ReadyProcess
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, stream)) for stream in ("out", "err")]
        started = kind(target=_run_module, args=(name, words, dict(environment), [str(each) for each in path], files))
        started.start()
        started.join(PATIENCE_S)
        assert started.exitcode is not None, f"{name} {words} has not ended within {PATIENCE_S:g} s"
        out, err = (Path(file).read_bytes() for file in files)
    return subprocess.CompletedProcess(words, started.exitcode, out, err)


def _run_module(
    name: str, words: Sequence[str], environment: Mapping[str, str], path: Sequence[str], files: Sequence[str]
) -> None:
    os.environ.update(environment)
    if path:
        os.environ["PYTHONPATH"] = os.pathsep.join(path)  # of what it starts
        sys.path[:0] = path
    for module in [each for each in sys.modules if path and each.partition(".")[0] == "lorasweep"]:
        del sys.modules[module]  # some ask what is installed when they are imported
    sys.argv = [name, *words]
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    for number, (stream, file) in enumerate(zip(("stdout", "stderr"), files, strict=True), start=1):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
        own = errors or ("strict" if stream == "stdout" else "backslashreplace")
        setattr(sys, stream, io.TextIOWrapper(os.fdopen(number, "wb", closefd=False), encoding, own))
    runpy.run_module(name, run_name="__main__", alter_sys=True)
