"""The worker process: loads the base once, then cooks one job after another until its driver is gone.

Messages are plain dicts over a pipe. In: `cook`, `base_samples`, `verdict`, `stop`. Out: `ready`, `beat`,
`event`, `outcome`, `drawn`. What cooks (a module with `TrialResources`, `cook` and `draw_base_samples`) is
given by name, so this file imports no torch and can be tested with a module that cooks nothing.

Knows nothing about Optuna, MLflow or other workers.
"""

from __future__ import annotations

import faulthandler
import functools
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from lorasweep.core.files import write_text
from lorasweep.core.records import LauncherOptions, Outcome, Plan, Recipe, Status, from_dict, to_dict
from lorasweep.core.run_folder import ERROR_FILE, RunFolder
from lorasweep.sweep.retry import is_disk_full, one_line, status_of
from lorasweep.sweep.workers import stop
from lorasweep.trial.resource_usage import taken_mb

STEP_EVENT_EVERY_S = 0.5
WHERE_SIGNAL = getattr(signal, "SIGUSR1", None)  # Windows has none
LONGEST_BEAT_S = 5.0
BEATS_PER_DEADLINE = 20
BUSY_SHARE = 0.05  # of a CPU core's time; waiting takes far less, computing more even on a crowded machine
VMSTAT = Path("/proc/vmstat")


def main(connection: Connection, trial_module: str, log: str, launcher: LauncherOptions) -> None:
    """Run until killed, until the driver is gone, or until this process should not be used any longer.

    Args:
        connection: to the driver.
        trial_module: has `TrialResources`, `cook` and `draw_base_samples`.
        log: file that collects what libraries print.
        launcher: says when a worker is taken for dead, and when it makes room for a fresh one.
    """
    _redirect_output(log)
    stop.ignore()
    end_with_driver()
    line = DriverLine(connection)
    if launcher.hang_s is not None:
        Heartbeat(lambda: line.send(kind="beat"), every_s=beat_every_s(launcher.hang_s))
    module = importlib.import_module(trial_module)
    resources = module.TrialResources()
    fitness = _Fitness(launcher)
    line.send(kind="ready")
    while (job := line.next_job()) is not None:
        if job["kind"] == "cook":
            leaving = _cook(module, resources, line, job, fitness)
        else:
            leaving = _draw(module, resources, line, job)
        if leaving:
            print(f"this worker ends, for a fresh one to go on: {leaving}", flush=True)
            return


class _Fitness:
    """Whether this process may take another job."""

    def __init__(self, launcher: LauncherOptions) -> None:
        self._recycle_after = launcher.recycle_after
        self._memory = MemoryWatch(launcher.memory_growth_mb, taken_mb=taken_mb)
        self._cooked = 0

    def leaving(self, error: BaseException | None) -> str:
        """Say after a job why this process should end; "" when it is good for more.

        An error may leave an adapter in the base, memory taken or CUDA unusable.
        """
        self._cooked += 1
        if error is not None:
            return one_line(error)
        if self._recycle_after is not None and self._cooked >= self._recycle_after:
            return f"it has cooked {self._cooked} trials"
        return self._memory.overgrown()


class DriverLine:
    """The worker's end of the pipe: events up, verdicts and stops down."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._jobs: deque[dict[str, Any]] = deque()
        self._verdicts: deque[bool] = deque()
        self._stop = False
        self._gone = False
        self._last_step_s = 0.0
        self._sending = threading.Lock()  # the heart beats in a thread of its own
        self.rungs: frozenset[int] = frozenset()  # of the job at hand

    def send(self, **message: Any) -> None:
        """Send upwards; silence when the driver is gone, which `should_stop` then says."""
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            self._lose_driver()

    def next_job(self) -> dict[str, Any] | None:
        """Wait for a job; None when the driver is gone."""
        while not self._jobs:
            if self._gone:
                return None
            self._receive()
        self._stop = False  # a stop that came before the job was meant for an earlier one
        return self._jobs.popleft()

    def report(self, event: dict[str, Any]) -> bool:
        """Pass an event of `run.cook` on; for a rung, wait for the verdict.

        Returns:
            Whether to go on.
        """
        if event["kind"] == "step":
            now = time.monotonic()
            if now - self._last_step_s < STEP_EVENT_EVERY_S and event["step"] not in self.rungs:
                return True
            self._last_step_s = now
        self.send(kind="event", event=event)
        return self._verdict() if event["kind"] == "rung" else True

    def should_stop(self) -> bool:
        """Whether the driver asked to stop, or is gone; cheap enough to ask at every step."""
        while not self._gone and self._connection.poll():
            self._receive()
        return self._stop

    def _verdict(self) -> bool:
        while not self._verdicts and not self._gone:
            self._receive()
        # A trial whose driver is gone is not pruned: it stops at the next `should_stop`, to be continued.
        return self._verdicts.popleft() if self._verdicts else True

    def _receive(self) -> None:
        try:
            message = self._connection.recv()
        except (EOFError, OSError):
            self._lose_driver()
            return
        if message["kind"] == "verdict":
            self._verdicts.append(bool(message["go"]))
        elif message["kind"] == "stop":
            self._stop = True
        else:
            self._jobs.append(message)

    def _lose_driver(self) -> None:
        self._gone = self._stop = True


def _cook(module: ModuleType, resources: Any, line: DriverLine, job: dict[str, Any], fitness: _Fitness) -> str:
    """Cook one recipe and send its outcome; returns why this process ends, "" when it goes on."""
    plan = from_dict(Plan, job["plan"])
    line.rungs = frozenset(plan.rungs)
    outcome, failed = cook_once(
        functools.partial(module.cook, from_dict(Recipe, job["recipe"]), plan, Path(job["folder"]), resources),
        Path(job["folder"]),
        attempt=job["attempt"],
        report=line.report,
        should_stop=line.should_stop,
    )
    if failed is not None:
        traceback.print_exception(failed)  # into the worker's log
    leaving = fitness.leaving(failed)
    full = failed is not None and is_disk_full(failed)
    line.send(kind="outcome", outcome=to_dict(outcome), leaving=leaving, disk_full=full)
    return leaving


def cook_once(
    cook: Callable[..., Outcome], folder: Path, *, attempt: int, **asks: Any
) -> tuple[Outcome, Exception | None]:
    """Make one attempt, and leave in the run folder how it ended, for a driver that may be gone.

    `cook` is `run.cook` but for `asks`, its `report` and `should_stop`. Returns the outcome, and the error that it is
    made of, if it is.
    """
    try:
        outcome = cook(**asks)
        if outcome.status is not Status.CANCELLED:
            RunFolder(folder).write_outcome(outcome, attempt=attempt)
    except Exception as error:
        outcome = Outcome(status=status_of(error), step=0, reason=one_line(error))
        with suppress(OSError):  # the error may be a full disk; the caller still hears how it ended
            write_text(folder / ERROR_FILE, traceback.format_exc())
            RunFolder(folder).write_outcome(outcome, attempt=attempt)
        return outcome, error
    return outcome, None


def _draw(module: ModuleType, resources: Any, line: DriverLine, job: dict[str, Any]) -> str:
    """Draw the base model's own samples; returns why this process ends, "" when it goes on."""
    folder = Path(job["folder"])
    reason, full = "", False
    try:
        module.draw_base_samples(from_dict(Recipe, job["recipe"]), from_dict(Plan, job["plan"]), folder, resources)
    except Exception as error:
        traceback.print_exc()  # into the worker's log; the folder stays away until it is whole
        reason, full = one_line(error), is_disk_full(error)
    line.send(kind="drawn", reason=reason, disk_full=full)
    return reason


def _redirect_output(log: str) -> None:
    """Send what libraries print and native crashes say to the log: the terminal shows the live table."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    faulthandler.enable(file=sys.stderr)
    # The driver asks with it where a hung worker hangs; it answers even inside a native call.
    if WHERE_SIGNAL:
        faulthandler.register(WHERE_SIGNAL, file=sys.stderr, all_threads=True)


def end_with_driver() -> None:
    """End this process at once when its driver is gone, in the middle of whatever it does."""
    driver = multiprocessing.parent_process()
    assert driver is not None, "a worker is a child"

    def wait() -> None:
        driver.join()
        os._exit(1)

    threading.Thread(target=wait, name="end-with-driver", daemon=True).start()


class Heartbeat:
    """A thread that beats as long as the main thread gets on.

    A beat means that the main thread stands at another place of the program than at the last look, or that
    the process has computed since. So a long drawing or judging, which reports no event, beats, and so does
    one long call that computes; a deadlock, or a wait for what never comes, does not.
    """

    def __init__(self, beat: Callable[[], object], *, every_s: float) -> None:
        """Start; `beat` is called from the heart's own thread."""
        self._beat, self._every_s = beat, every_s
        self._watched = threading.main_thread().ident or 0
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        place, cpu_s = _whereabouts(self._watched), time.process_time()
        while not pause.wait(self._every_s):
            now, now_s = _whereabouts(self._watched), time.process_time()
            if now != place or now_s - cpu_s > BUSY_SHARE * self._every_s:
                self._beat()
            place, cpu_s = now, now_s


def beat_every_s(deadline_s: float) -> float:
    """How often to beat so that a deadline of so many seconds is not missed by chance."""
    return min(LONGEST_BEAT_S, deadline_s / BEATS_PER_DEADLINE)


class MemoryWatch:
    """Notices that a process takes much more memory than after its first job, when all models were loaded."""

    def __init__(self, limit_mb: float | None, *, taken_mb: Callable[[], Mapping[str, float]]) -> None:
        """Tolerate growth of `limit_mb` (MB = 10^6 bytes; None: any), measured by kind of memory."""
        self._limit_mb, self._taken_mb = limit_mb, taken_mb
        self._first: Mapping[str, float] = {}

    def overgrown(self) -> str:
        """Look after a job; returns what grew too much, "" when nothing did."""
        if self._limit_mb is None:
            return ""
        now = self._taken_mb()
        self._first = {**now, **self._first}
        for kind, taken in now.items():
            grown = taken - self._first[kind]
            if grown > self._limit_mb:
                return f"its {kind} grew by {grown:.0f} MB"
        return ""


def kernel_oom_kills() -> int | None:
    """How many processes the kernel has killed for want of memory since it booted; None off Linux."""
    try:
        lines = VMSTAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def _whereabouts(thread: int) -> list[tuple[int, int]]:
    """Where a thread stands: every frame on its stack and the instruction in it."""
    places = []
    frame = sys._current_frames().get(thread)
    while frame is not None:
        places.append((id(frame), frame.f_lasti))
        frame = frame.f_back
    return places
