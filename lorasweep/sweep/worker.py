"""The worker process: loads the base once, then cooks one job after another until its driver is gone.

Messages are plain dicts over a pipe. In: `cook`, `base_samples`, `verdict`, `stop`. Out: `ready`, `event`,
`outcome`, `drawn`. The kitchen (a module with `Kitchen`, `cook` and `draw_base_samples`) is given by name, so
this file imports no torch and can be tested with a kitchen that cooks nothing.

Knows nothing about Optuna, MLflow or other workers.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import signal
import sys
import time
import traceback
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from lorasweep.errors import InputError
from lorasweep.files import write_text
from lorasweep.records import Outcome, Plan, Recipe, Status, from_dict, to_dict
from lorasweep.sweep.folder import write_outcome

STEP_EVENT_EVERY_S = 0.5
ERROR_FILE = "error.txt"
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What a worker needs before its first job."""

    kitchen_module: str
    log: str  # file that collects what libraries print
    driver_pid: int


def main(connection: Connection, settings: WorkerSettings) -> None:
    """Run until killed, until the driver is gone, or until a cook has failed."""
    _redirect_output(settings.log)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(settings.driver_pid)
    module = importlib.import_module(settings.kitchen_module)
    kitchen = module.Kitchen()
    line = DriverLine(connection)
    line.send(kind="ready")
    while (job := line.next_job()) is not None:
        sound = (
            _cook(module, kitchen, line, job) if job["kind"] == "cook" else _draw(module, kitchen, line, job)
        )
        if not sound:
            # An error may leave an adapter in the base, or memory taken: start over in a fresh process.
            return


class DriverLine:
    """The worker's end of the pipe: events up, verdicts and stops down."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._jobs: deque[dict[str, Any]] = deque()
        self._verdicts: deque[bool] = deque()
        self._stop = False
        self._gone = False
        self._last_step_s = 0.0
        self.rungs: frozenset[int] = frozenset()  # of the job at hand

    def send(self, **message: Any) -> None:
        """Send upwards; silence when the driver is gone, which `should_stop` then says."""
        try:
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


def _cook(module: ModuleType, kitchen: Any, line: DriverLine, job: dict[str, Any]) -> bool:
    """Cook one recipe and send its outcome; False when the process should not be trusted any longer."""
    folder = Path(job["folder"])
    sound = True
    plan = from_dict(Plan, job["plan"])
    line.rungs = frozenset(plan.rungs)
    try:
        outcome = module.cook(
            from_dict(Recipe, job["recipe"]),
            plan,
            folder,
            kitchen,
            report=line.report,
            should_stop=line.should_stop,
        )
    except Exception as error:
        traceback.print_exc()  # into the worker's log
        with suppress(OSError):  # the error may be a full disk
            write_text(folder / ERROR_FILE, traceback.format_exc())
        outcome, sound = Outcome(status=_status_of(error), step=0, reason=one_line(error)), False
    if outcome.status is not Status.CANCELLED:
        write_outcome(folder, outcome, attempt=job["attempt"])
    line.send(kind="outcome", outcome=to_dict(outcome), sound=sound)
    return sound


def _draw(module: ModuleType, kitchen: Any, line: DriverLine, job: dict[str, Any]) -> bool:
    """Draw the base model's own samples."""
    folder = Path(job["folder"])
    reason = ""
    try:
        module.draw_base_samples(
            from_dict(Recipe, job["recipe"]), from_dict(Plan, job["plan"]), folder, kitchen
        )
    except Exception as error:
        traceback.print_exc()  # into the worker's log; the folder stays away until it is whole
        reason = one_line(error)
    line.send(kind="drawn", reason=reason)
    return not reason


def one_line(error: BaseException) -> str:
    """Say what went wrong in one line; the traceback is in error.txt."""
    if isinstance(error, InputError):
        return "; ".join(str(problem) for problem in error.problems)
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _status_of(error: Exception) -> Status:
    if isinstance(error, InputError):
        return Status.INVALID
    torch = sys.modules.get("torch")  # if nobody imported it, it raised nothing
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return Status.OUT_OF_MEMORY
    # torch's CPU allocator has no exception class of its own.
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
        return Status.OUT_OF_MEMORY
    return Status.CRASHED


def _redirect_output(log: str) -> None:
    """Send what libraries print and native crashes say to the log: the terminal shows the live table."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    faulthandler.enable(file=sys.stderr)


def _die_with(driver_pid: int) -> None:
    """On Linux, be killed together with the driver; elsewhere the pipe's EOF ends us at the next step."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != driver_pid:  # it died while we were starting
        os._exit(1)
