"""The worker processes, seen from the driver: how many, start, send, listen, notice death, start again.

One worker per GPU, or as many as the CPU has cores for. A worker's death is an item in the same stream as its
messages, after the last of them. Knows nothing about trials' fates.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pickle import UnpicklingError
from typing import Any

from lorasweep.core import machine
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.records import LauncherOptions
from lorasweep.plan.memory import GIB, Room
from lorasweep.sweep.launchers import LaunchOptions, Message, Place, WorkerExit
from lorasweep.sweep.workers import stop, worker
from lorasweep.sweep.workers.worker import kernel_oom_kills

LEAVE_PATIENCE_S = 2.0
REAP_PATIENCE_S = 5.0  # a dead process is reaped in milliseconds
START_S = 60.0  # for a worker to import what it needs, whatever a person takes for a hang
LAST_WORDS_S = 0.5  # for a hung worker to write where it hangs
# Time that passed between two looks counts no further: we may have slept ourselves (Ctrl-Z, a laptop's lid).
LONGEST_LOOK_S = 2.0
_STARTING = threading.Lock()
_DRIVER_PATIENCE_S = 20.0  # nvidia-smi takes seconds where the driver's persistence mode is off


@dataclass(frozen=True, kw_only=True)
class Supply:
    """What one machine gives its workers."""

    workers: int
    threads: int  # CPU threads of each
    gpus: Sequence[str] = ()  # CUDA device ids; empty for CPU workers

    @property
    def sharers(self) -> int:
        """Workers that have a GPU together, or the machine's memory."""
        return math.ceil(self.workers / max(1, len(self.gpus)))


class WorkerProcess:
    """One worker process and the driver's end of its pipe."""

    def __init__(self, index: int, options: LaunchOptions, supply: Supply, *, seats: int) -> None:
        """Start it, for so many trials at a time."""
        self.index, self.seats = index, seats
        self.leaving = False  # it said that it will end itself
        self.silent_s = 0.0  # how long nothing was heard of it
        self.hung = ""  # why we killed it ourselves
        self.heir: WorkerProcess | None = None  # the process in its place
        self._oom_kills = kernel_oom_kills()
        self.log = options.log_folder / f"worker-{index}.log"
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        sharers = options.sharers * supply.sharers
        arguments = (theirs, options.trial_module, str(self.log), options.launcher, sharers, seats)
        self.process: SpawnProcess = context.Process(
            target=worker.main, args=arguments, name=f"lorasweep-worker-{index}", daemon=True
        )
        with _without_program(), _environment(_variables(index, supply)), stop.blocked():
            self.process.start()
        theirs.close()  # so that the worker's death is an EOF here

    def received(self) -> tuple[list[Message], bool]:
        """Return everything that has arrived, and whether the worker is still there."""
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
            return WorkerExit(cause=self.hung, lost=self.leaving)
        if code is None or code >= 0:
            return WorkerExit(cause=f"the worker exited with code {code}", lost=self.leaving)
        name = signal.Signals(-code).name
        if name != "SIGKILL":
            return WorkerExit(cause=f"the worker was killed by {name}")
        kills = kernel_oom_kills()
        if kills is not None and self._oom_kills is not None and kills > self._oom_kills:
            return WorkerExit(cause="the worker was killed by the kernel for want of memory", starved=True)
        unknown = ", perhaps by the system for want of memory" if kills is None else ""
        return WorkerExit(cause=f"the worker was killed by {name}{unknown}")

    def end_hung(self) -> None:
        """Let a hung worker write where it hangs, then kill it; `WorkerPool.listen` tells of its death."""
        self.hung = f"the worker gave no sign of life for {self.silent_s:.0f} s; {self.log} says where it hung"
        if worker.WHERE_SIGNAL and self.process.pid is not None and self.process.exitcode is None:
            os.kill(self.process.pid, worker.WHERE_SIGNAL)
            self.process.join(LAST_WORDS_S)
        self.process.kill()

    def kill(self) -> None:
        """End the process now."""
        self.process.kill()
        self.process.join(REAP_PATIENCE_S)
        self.connection.close()

    def seats_of_heir(self) -> int:
        """Tell how many trials at a time are right for a fresh process: fewer after they failed together."""
        if self.process.exitcode == worker.CROWDED:
            return max(1, self.seats // 2)
        # One of them may be what kills, and the others must not fall with it time after time.
        return self.seats if self.leaving else 1


class WorkerHandle:
    """A seat in a worker process, which holds one trial: a `Member`."""

    def __init__(self, process: WorkerProcess, seat: int) -> None:
        self.worker, self.seat = process, seat
        self.place: Place | None = Place()
        self._ready = False
        self.job: Any = None  # whatever the driver gave it
        self.stopping = False  # it was asked to stop its job
        self.log = process.log

    @property
    def ready(self) -> bool:
        """Whether it has loaded its code and waits for a job, in a process that stays."""
        return self._ready and not self.leaving

    @ready.setter
    def ready(self, ready: bool) -> None:
        self._ready = ready

    @property
    def leaving(self) -> bool:
        """Whether its process said that it will end itself."""
        return self.worker.leaving

    @leaving.setter
    def leaving(self, leaving: bool) -> None:
        self.worker.leaving |= leaving

    def send(self, **message: Any) -> bool:
        """Send; False when the worker is gone (its death will come through `WorkerPool.listen`)."""
        try:
            self.worker.connection.send({**message, "seat": self.seat})
        except (BrokenPipeError, ConnectionError, OSError):
            return False
        return True

    def death(self) -> WorkerExit:
        """Find out how a dead worker ended."""
        return self.worker.death()

    @property
    def busy(self) -> bool:
        """Whether something should be heard of it: it is starting or ending, or has a job."""
        return self.job is not None or not self.ready

    def kill(self) -> None:
        """End the process now, and what else it has at hand."""
        self.worker.kill()


class WorkerPool:
    """The workers of this machine: a `Launcher`, with a member for each trial that a worker may have at hand."""

    def __init__(self, options: LaunchOptions, *, pack: int = 1) -> None:
        """Have workers train up to `pack` trials at a time."""
        self.jobs = options.jobs
        self.members: list[WorkerHandle] = []
        self._options, self._pack = options, pack
        self._supply = Supply(workers=0, threads=1)
        self._looked = time.monotonic()

    def reach(self) -> None:
        """Do nothing: nothing can be missing here."""

    def waiting(self) -> str:
        """Return nothing: workers here are there at once."""
        return ""

    def __enter__(self) -> WorkerPool:
        self._options.log_folder.mkdir(parents=True, exist_ok=True)
        self._supply = supply_here(self._options.launcher, jobs=self.jobs, gpus_wanted=self._options.gpus_wanted)
        processes: list[WorkerProcess] = []
        try:
            for index in range(self._supply.workers):
                processes.append(WorkerProcess(index, self._options, self._supply, seats=self._pack))
        except BaseException:
            for process in processes:
                process.kill()
            raise
        # One of each worker in turn, so that few trials spread over the workers.
        seats = [WorkerHandle(process, seat) for seat in range(self._pack) for process in processes]
        self.members += seats[: max(1, self.jobs)]
        return self

    def __exit__(self, *_: object) -> None:
        # Idle workers end by themselves when their pipe closes; whatever they have finished is on disk.
        busy = {handle.worker for handle in self.members if handle.busy}
        idle = self._processes - busy
        for process in idle:
            process.connection.close()
        deadline = time.monotonic() + LEAVE_PATIENCE_S
        for process in idle:
            process.process.join(max(0.0, deadline - time.monotonic()))
        for process in self._processes:
            process.kill()
        self.members.clear()

    @property
    def _processes(self) -> set[WorkerProcess]:
        return {handle.worker for handle in self.members}

    def listen(self, timeout_s: float) -> list[tuple[WorkerHandle, Message | None]]:
        """Wait for news.

        Returns:
            (worker, message) in order of arrival per worker; (worker, None) last, when it died.
        """
        sources: dict[Any, WorkerProcess] = {}
        for process in self._processes:
            sources[process.connection] = process
            sources[process.process.sentinel] = process
        heard = {sources[source] for source in wait(list(sources), timeout_s)}
        news: list[tuple[WorkerHandle, Message | None]] = []
        for process in sorted(heard, key=lambda each: each.index):
            handles = [handle for handle in self.members if handle.worker is process]
            messages, alive = process.received()
            for message in messages:
                seat = message.pop("seat", None)
                news += [(handle, message) for handle in handles if seat in (None, handle.seat)]
            if not alive:
                news += [(handle, None) for handle in handles]
        self._count_silence({handle.worker for handle, _ in news})
        return news

    def _count_silence(self, heard: set[WorkerProcess]) -> None:
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, LONGEST_LOOK_S), now
        busy = {handle.worker for handle in self.members if handle.busy}
        for process in self._processes:
            process.silent_s = process.silent_s + passed if process in busy - heard else 0.0

    def end_hung(self) -> None:
        """Kill the workers of which nothing was heard for too long."""
        deadline_s = self._options.launcher.hang_s
        begun = {handle.worker for handle in self.members if handle.ready or handle.leaving}
        for process in self._processes:
            at_least_s = 0.0 if process in begun else START_S
            if deadline_s is not None and process.silent_s > max(deadline_s, at_least_s) and not process.hung:
                process.end_hung()

    def replace(self, handle: WorkerHandle) -> None:
        """Put a fresh process in the place of a dead one, for as much of what that had at hand as is right."""
        dead, place = handle.worker, self.members.index(handle)
        dead.kill()
        if dead.heir is None:
            dead.heir = WorkerProcess(dead.index, self._options, self._supply, seats=dead.seats_of_heir())
        taken = sum(other.worker is dead.heir for other in self.members)
        self.members[place : place + 1] = [WorkerHandle(dead.heir, taken)] if taken < dead.heir.seats else []

    def remove(self, handle: WorkerHandle) -> None:
        """Do without a worker from now on."""
        handle.kill()
        self.members.remove(handle)


def _variables(index: int, supply: Supply) -> dict[str, str]:
    threads = str(supply.threads)
    variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
    if supply.gpus:
        variables["CUDA_VISIBLE_DEVICES"] = supply.gpus[index % len(supply.gpus)]
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


@contextmanager
def _without_program() -> Iterator[None]:
    """Hide `__main__` while a child starts, which would import it anew: a script need not guard against it.

    One child at a time, whichever thread starts it: another's end would show it again too early.
    """
    with _STARTING:
        program = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = program


def supply_here(launcher: LauncherOptions, *, jobs: int, gpus_wanted: bool) -> Supply:
    """Decide on the workers of this machine."""
    gpus = visible_gpus() if gpus_wanted else []
    workers, threads = share_out(launcher, gpus=len(gpus), cores=cpu_cores(), jobs=jobs)
    return Supply(workers=workers, threads=threads, gpus=gpus)


def share_out(launcher: LauncherOptions, *, gpus: int, cores: int, jobs: int) -> tuple[int, int]:
    """Decide how many workers there are and how many CPU threads each has, both at least 1.

    `jobs` trials can be cooked at the same time at most; a usable GPU has one worker unless asked otherwise.
    """
    workers = launcher.workers or gpus or max(1, cores // (launcher.threads or 1))
    workers = max(1, min(workers, jobs))
    return workers, launcher.threads or max(1, cores // workers)


def visible_gpus() -> list[str]:
    """Return CUDA devices that workers may use, found without importing torch; honours CUDA_VISIBLE_DEVICES."""
    declared = os.environ.get("CUDA_VISIBLE_DEVICES")
    if declared is not None:
        return [name.strip() for name in declared.split(",") if name.strip() not in ("", "-1")]
    return list(_nvidia_gpus())


def room_of(supply: Supply) -> Room | None:
    """Tell what each worker has of a device's memory, of the smallest GPU's; None where GPUs do not tell."""
    if not supply.gpus:
        return Room(gib=machine.total_bytes() / GIB / supply.sharers, workers=supply.sharers, on_gpu=False)
    listing = _nvidia_smi("--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")
    rows = re.findall(r"^(\d+), (\S+), (\d+)$", listing, re.MULTILINE)
    found = [float(mib) for index, uuid, mib in rows if {index, uuid} & set(supply.gpus)]
    return Room(gib=min(found) / 1024 / supply.sharers, workers=supply.sharers, on_gpu=True) if found else None


def gpu_models() -> dict[str, str]:
    """Return the model of each of `visible_gpus`, by its id."""
    known = _nvidia_gpus()
    by_uuid = {uuid: model for model, uuid in known.values()}
    return {gpu: known[gpu][0] if gpu in known else by_uuid.get(gpu, "GPU") for gpu in visible_gpus()}


def _nvidia_gpus() -> dict[str, tuple[str, str]]:
    """Return index -> model and UUID, as the driver's tool lists them."""
    lines = re.findall(r"^GPU (\d+): (.+) \(UUID: (\S+)\)", _nvidia_smi("-L"), re.MULTILINE)
    return {index: (model, uuid) for index, model, uuid in lines}


def _nvidia_smi(*words: str) -> str:
    """Return what the driver's tool says; nothing where there is none. A driver that hangs is an InputError."""
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_DRIVER_PATIENCE_S, check=False).stdout
    except subprocess.TimeoutExpired as error:
        message = f"does not answer within {_DRIVER_PATIENCE_S:.0f} s, so the driver hangs"
        hint = "a restart of the machine helps most often; CUDA_VISIBLE_DEVICES= does without GPUs"
        raise InputError(Problem("nvidia-smi", message, hint), subject="the GPUs") from error


def cpu_cores() -> int:
    """Return cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
