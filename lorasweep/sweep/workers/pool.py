"""The worker processes, seen from the driver: how many, start, send, listen, notice death, start again.

One worker per GPU, or as many as the CPU has cores for. A worker's death is an item in the same stream as its
messages, after the last of them. Knows nothing about trials' fates.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from lorasweep.core.records import LauncherOptions
from lorasweep.sweep.queue import Trial
from lorasweep.sweep.ranking.noise import CONTENDERS
from lorasweep.sweep.workers import stop, worker
from lorasweep.sweep.workers.worker import kernel_oom_kills

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec


Message = dict[str, Any]
LEAVE_PATIENCE_S = 2.0
REAP_PATIENCE_S = 5.0  # a dead process is reaped in milliseconds
LAST_WORDS_S = 0.5  # for a hung worker to write where it hangs
# Time that passed between two looks counts no further: we may have slept ourselves (Ctrl-Z, a laptop's lid).
LONGEST_LOOK_S = 2.0
LOG_FOLDER = "workers"


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """How workers are made."""

    trial_module: str  # has TrialResources, cook and draw_base_samples
    workers: int
    threads: int  # CPU threads of each
    gpus: Sequence[str]  # CUDA device ids; empty for CPU workers
    log_folder: Path
    launcher: LauncherOptions = LauncherOptions()  # where they live, and when one is taken for dead


@dataclass(frozen=True)
class WorkerExit:
    """How a worker ended."""

    cause: str  # for people
    starved: bool = False  # the kernel killed it for want of memory


class WorkerHandle:
    """One worker process and the driver's end of its pipe."""

    def __init__(self, index: int, options: PoolOptions) -> None:
        self.index = index
        self.ready = False  # it has loaded its code and waits for a job
        self.job: Any = None  # whatever the driver gave it
        self.stopping = False  # it was asked to stop its job
        self.leaving = False  # it said that it will end itself
        self.silent_s = 0.0  # how long nothing was heard of it
        self.hung = ""  # why we killed it ourselves
        self._oom_kills = kernel_oom_kills()
        self.log = options.log_folder / f"worker-{index}.log"
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arguments = (theirs, options.trial_module, str(self.log), options.launcher)
        self.process: SpawnProcess = context.Process(
            target=worker.main, args=arguments, name=f"lorasweep-worker-{index}", daemon=True
        )
        with _environment(_variables(index, options)), stop.blocked():
            self.process.start()
        theirs.close()  # so that the worker's death is an EOF here

    def send(self, **message: Any) -> bool:
        """Send; False when the worker is gone (its death will come through `WorkerPool.listen`)."""
        try:
            self.connection.send(message)
        except (BrokenPipeError, ConnectionError, OSError):
            return False
        return True

    def received(self) -> tuple[list[Message], bool]:
        """Everything that has arrived, and whether the worker is still there."""
        alive = self.process.exitcode is None  # asked first: what a dead worker sent has all arrived
        messages: list[Message] = []
        try:
            while self.connection.poll():
                messages.append(self.connection.recv())
        except (EOFError, OSError, UnpicklingError):
            return messages, False
        return messages, alive

    def death(self) -> WorkerExit:
        """Find out how a dead worker ended."""
        self.process.join(REAP_PATIENCE_S)
        code = self.process.exitcode
        if self.hung:
            return WorkerExit(self.hung)
        if code is None or code >= 0:
            return WorkerExit(f"the worker exited with code {code}")
        name = signal.Signals(-code).name
        if name != "SIGKILL":
            return WorkerExit(f"the worker was killed by {name}")
        kills = kernel_oom_kills()
        if kills is not None and self._oom_kills is not None and kills > self._oom_kills:
            return WorkerExit("the worker was killed by the kernel for want of memory", starved=True)
        unknown = ", perhaps by the system for want of memory" if kills is None else ""
        return WorkerExit(f"the worker was killed by {name}{unknown}")

    @property
    def busy(self) -> bool:
        """Whether something should be heard of it: it is starting, or has a job."""
        return self.job is not None or not (self.ready or self.leaving)

    def end_hung(self) -> None:
        """Let a hung worker write where it hangs, then kill it; `WorkerPool.listen` tells of its death."""
        self.hung = f"the worker gave no sign of life for {self.silent_s:.0f} s; {self.log} says where it hung"
        if worker.WHERE_SIGNAL and self.process.pid is not None and self.process.exitcode is None:
            os.kill(self.process.pid, worker.WHERE_SIGNAL)
            self.process.join(LAST_WORDS_S)
        self.process.kill()

    def last_words(self) -> str:
        """The last line that the worker printed; empty when it printed none."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def kill(self) -> None:
        """End the process now."""
        self.process.kill()
        self.process.join(REAP_PATIENCE_S)
        self.connection.close()


class WorkerPool:
    """Context manager over a fixed number of workers, all killed on the way out."""

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._looked = time.monotonic()
        self.workers: list[WorkerHandle] = []

    def __enter__(self) -> WorkerPool:
        self._options.log_folder.mkdir(parents=True, exist_ok=True)
        try:
            for index in range(self._options.workers):
                self.workers.append(WorkerHandle(index, self._options))
        except BaseException:
            self._kill_all()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # Idle workers end by themselves when their pipe closes; whatever they have finished is on disk.
        idle = [handle for handle in self.workers if handle.ready and handle.job is None]
        for handle in idle:
            handle.connection.close()
        deadline = time.monotonic() + LEAVE_PATIENCE_S
        for handle in idle:
            handle.process.join(max(0.0, deadline - time.monotonic()))
        self._kill_all()

    def listen(self, timeout_s: float) -> list[tuple[WorkerHandle, Message | None]]:
        """Wait for news.

        Returns:
            (worker, message) in order of arrival per worker; (worker, None) last, when it died.
        """
        sources: dict[Any, WorkerHandle] = {}
        for handle in self.workers:
            sources[handle.connection] = handle
            sources[handle.process.sentinel] = handle
        heard = {id(sources[source]): sources[source] for source in wait(list(sources), timeout_s)}
        news: list[tuple[WorkerHandle, Message | None]] = []
        for handle in heard.values():
            messages, alive = handle.received()
            news += [(handle, message) for message in messages]
            if not alive:
                news.append((handle, None))
        self._count_silence({id(handle) for handle, _ in news})
        return news

    def _count_silence(self, heard: set[int]) -> None:
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, LONGEST_LOOK_S), now
        for handle in self.workers:
            quiet = handle.busy and id(handle) not in heard
            handle.silent_s = handle.silent_s + passed if quiet else 0.0

    def end_hung(self) -> None:
        """Kill the workers of which nothing was heard for too long."""
        deadline_s = self._options.launcher.hang_s
        for handle in self.workers:
            if deadline_s is not None and handle.silent_s > deadline_s and not handle.hung:
                handle.end_hung()

    def replace(self, handle: WorkerHandle) -> None:
        """Put a fresh process in the place of a dead one."""
        handle.kill()
        self.workers[self.workers.index(handle)] = WorkerHandle(handle.index, self._options)

    def remove(self, handle: WorkerHandle) -> None:
        """Do without a worker from now on."""
        handle.kill()
        self.workers.remove(handle)

    def _kill_all(self) -> None:
        for handle in self.workers:
            handle.kill()
        self.workers.clear()


def _variables(index: int, options: PoolOptions) -> dict[str, str]:
    threads = str(options.threads)
    variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    if options.gpus:
        variables["CUDA_VISIBLE_DEVICES"] = options.gpus[index % len(options.gpus)]
    return variables


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables while a child starts: torch reads them when it is imported, before our code runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def pool_options(
    spec: SweepSpec, folder: Path, trials: Sequence[Trial], trial_module: str, *, further: bool
) -> PoolOptions:
    """Decide on the workers of one call; `further`: repeats may be added once the trials known so far are cooked."""
    launcher = spec.launcher
    gpus = visible_gpus() if wants_gpus(spec) else []
    jobs = len({trial.record.fingerprint for trial in trials if not trial.record.status.is_final})
    jobs += max(0, spec.total - len(trials))  # points not asked for yet
    if further:
        jobs = max(jobs, 1 + CONTENDERS)
    workers, threads = share_out(launcher, gpus=len(gpus), cores=cpu_cores(), jobs=jobs)
    return PoolOptions(
        trial_module=trial_module,
        workers=workers,
        threads=threads,
        gpus=gpus,
        log_folder=folder / LOG_FOLDER,
        launcher=launcher,
    )


def wants_gpus(spec: SweepSpec) -> bool:
    """Whether any arm may be trained on a GPU."""
    return any(arm.recipe.train.device != "cpu" for arm in spec.known)


def share_out(launcher: LauncherOptions, *, gpus: int, cores: int, jobs: int) -> tuple[int, int]:
    """Decide how many workers there are and how many CPU threads each has, both at least 1.

    `jobs` trials can be cooked at the same time at most; a usable GPU has one worker unless asked otherwise.
    """
    workers = launcher.workers or gpus or max(1, cores // (launcher.threads or 1))
    workers = max(1, min(workers, jobs))
    return workers, launcher.threads or max(1, cores // workers)


def visible_gpus() -> list[str]:
    """CUDA devices that workers may use, found without importing torch; honours CUDA_VISIBLE_DEVICES."""
    declared = os.environ.get("CUDA_VISIBLE_DEVICES")
    if declared is not None:
        return [name.strip() for name in declared.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    count = sum(line.startswith("GPU ") for line in listing.stdout.splitlines())
    return [str(index) for index in range(count)]


def cpu_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
