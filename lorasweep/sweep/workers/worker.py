"""The worker process: loads the base once, then cooks job after job, several at a time, until its driver is gone.

Messages are plain dicts over a pipe. In: `cook`, `base_samples`, `verdict`, `stop`. Out: `ready`, `beat`,
`event`, `outcome`, `drawn`. All but `ready` and `beat` are about one `seat`, which holds one trial. What cooks (a
module with `TrialResources`, `cooking`, `train` and `draw_base_samples`) is given by name, so this file imports no
torch and can be tested with a module that cooks nothing.

Knows nothing about Optuna, MLflow or other workers.
"""

from __future__ import annotations

import faulthandler
import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from lorasweep.core.files import write_text
from lorasweep.core.records import LauncherOptions, Outcome, Plan, Recipe, Status, from_dict, to_dict
from lorasweep.core.run_folder import ERROR_FILE, RunFolder
from lorasweep.sweep.retry import is_disk_full, one_line, status_of
from lorasweep.sweep.workers import stop
from lorasweep.sweep.workers.line import DriverLine, Seat
from lorasweep.trial.resource_usage import taken_mb

WHERE_SIGNAL = getattr(signal, "SIGUSR1", None)  # Windows has none
LONGEST_BEAT_S = 5.0
BEATS_PER_DEADLINE = 20
BUSY_SHARE = 0.05  # of a CPU core's time; waiting takes far less, computing more even on a crowded machine
VMSTAT = Path("/proc/vmstat")
CROWDED = 3  # exit code: its trials failed together


def main(
    connection: Connection, trial_module: str, log: str, launcher: LauncherOptions, sharers: int, slots: int
) -> None:
    """Run until killed, until the driver at the other end is gone, or until this process should not be used any longer.

    `trial_module` has `TrialResources`, `cooking`, `train` and `draw_base_samples`; `log` collects what libraries
    print; `launcher` says when a worker is taken for dead, and when it makes room for a fresh one; `sharers` workers
    have the device together, and `slots` trials are trained at a time.
    """
    _redirect_output(log)
    stop.ignore()
    end_with_driver()
    line = DriverLine(connection)
    if launcher.hang_s is not None:
        Heartbeat(lambda: line.tell(kind="beat"), every_s=beat_every_s(launcher.hang_s))
    module = importlib.import_module(trial_module)
    worker = Worker(module, module.TrialResources(sharers=sharers, slots=slots), line, launcher)
    line.tell(kind="ready")
    worker.run()
    if worker.leaving:
        print(f"this worker ends, for a fresh one to go on: {worker.leaving}", flush=True)
    if worker.crowded:
        sys.exit(CROWDED)


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


@dataclass(kw_only=True, eq=False)
class _Trial:
    """One trial that this process is at work on."""

    seat: Seat
    job: dict[str, Any]
    steps: Generator[Any, None, Outcome]  # yields the training that it waits for
    wanted: Any = None


class Worker:
    """The trials that this process is at work on: trained together, judged one after the other.

    Attributes:
        leaving: why this process ends; empty while it is good for more.
        crowded: its trials failed together, so that fewer should be tried.
    """

    def __init__(self, module: ModuleType, resources: Any, line: DriverLine, launcher: LauncherOptions) -> None:
        """Take what cooks."""
        self.leaving, self.crowded = "", False
        self._module, self._resources = module, resources
        self._line, self._fitness = line, _Fitness(launcher)
        self._trials: list[_Trial] = []

    def run(self) -> None:
        """Take jobs until the driver is gone, or until this process should end."""
        while True:
            while not self.leaving and (job := self._line.next_job(self._may_begin, wait=not self._trials)):
                self._begin(*job)
            if not self._trials:
                self._give_back()
                return
            try:
                wanted = [trial.wanted for trial in self._trials]
                self._module.train(wanted, until=lambda: self._line.has_job(self._may_begin))
            except Exception as error:
                self._failed_together(error)
            for trial in list(self._trials):
                self._resume(trial)

    def _may_begin(self, job: dict[str, Any]) -> bool:
        """Tell whether a job goes beside those at hand; it waits for their end otherwise, as do those after it."""
        return not self._trials or job["shares"] is not None and job["shares"] == self._trials[0].job["shares"]

    def _begin(self, seat: Seat, job: dict[str, Any]) -> None:
        recipe, plan, folder = from_dict(Recipe, job["recipe"]), from_dict(Plan, job["plan"]), Path(job["folder"])
        if job["kind"] != "cook":
            self.leaving = _draw(self._module, recipe, plan, folder, self._resources, seat)
            return
        seat.rungs = frozenset(plan.rungs)
        steps = self._module.cooking(
            recipe, plan, folder, self._resources, report=seat.report, should_stop=seat.should_stop
        )
        trial = _Trial(seat=seat, job=job, steps=steps)
        self._trials.append(trial)
        if seat.stopped:  # while it waited
            self._ended(trial, Outcome(status=Status.CANCELLED, step=0, reason="stopped before it began"))
        else:
            self._resume(trial)

    def _resume(self, trial: _Trial, error: Exception | None = None) -> None:
        """Let a trial do what comes after its training, or fail with an error of that."""
        if trial not in self._trials:
            return
        try:
            trial.wanted = next(trial.steps) if error is None else trial.steps.throw(error)
        except StopIteration as end:
            self._ended(trial, end.value)
        except Exception as failure:
            if len(self._trials) > 1 and status_of(failure) is Status.OUT_OF_MEMORY:
                self._failed_together(failure)
            else:
                self._ended(trial, failure)

    def _ended(self, trial: _Trial, ended: Outcome | Exception) -> None:
        self._trials.remove(trial)
        outcome = note_end(ended, Path(trial.job["folder"]), attempt=trial.job["attempt"])
        failed = ended if isinstance(ended, Exception) else None
        self.leaving = self.leaving or self._fitness.leaving(failed)
        if self.leaving:
            for other in self._trials:
                other.seat.stopped = True
        self._say_outcome(trial, outcome, failed)

    def _give_back(self) -> None:
        """Let others have the trials that wait here for the end of those at hand."""
        while self.leaving and (waiting := self._line.next_job(lambda _: True, wait=False)):
            seat, job = waiting
            if job["kind"] == "cook":
                outcome = Outcome(status=Status.CANCELLED, step=0, reason="given back before it began")
                seat.send(kind="outcome", outcome=to_dict(outcome), leaving=self.leaving, disk_full=False)

    def _failed_together(self, error: Exception) -> None:
        """Answer to an error that may be any trial's, or of all together: all are taken up again by fresh processes."""
        if len(self._trials) == 1:
            self._resume(self._trials[0], error)
            return
        traceback.print_exception(error)
        reason = f"{one_line(error)}, with {len(self._trials)} trials at a time"
        self.leaving, self.crowded = reason, True
        for trial in self._trials:
            self._say_outcome(trial, Outcome(status=Status.CANCELLED, step=0, reason=reason), error)
        self._trials.clear()

    def _say_outcome(self, trial: _Trial, outcome: Outcome, failed: Exception | None) -> None:
        full = failed is not None and is_disk_full(failed)
        trial.seat.send(kind="outcome", outcome=to_dict(outcome), leaving=self.leaving, disk_full=full)


def note_end(ended: Outcome | Exception, folder: Path, *, attempt: int) -> Outcome:
    """Leave in the run folder how an attempt ended, for a driver that may be gone; returns it as an outcome."""
    if isinstance(ended, Outcome):
        if ended.status is not Status.CANCELLED:
            RunFolder(folder).write_outcome(ended, attempt=attempt)
        return ended
    outcome = Outcome(status=status_of(ended), step=0, reason=one_line(ended))
    with suppress(OSError):  # the error may be a full disk; the caller still hears how it ended
        write_text(folder / ERROR_FILE, "".join(traceback.format_exception(ended)))
        RunFolder(folder).write_outcome(outcome, attempt=attempt)
    return outcome


def _draw(module: ModuleType, recipe: Recipe, plan: Plan, folder: Path, resources: Any, seat: Seat) -> str:
    """Draw the base model's own samples; returns why this process ends, "" when it goes on."""
    reason, full = "", False
    try:
        module.draw_base_samples(recipe, plan, folder, resources)
    except Exception as error:
        traceback.print_exc()  # into the worker's log; the folder stays away until it is whole
        reason, full = one_line(error), is_disk_full(error)
    seat.send(kind="drawn", reason=reason, disk_full=full)
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

    A beat means that the main thread stands at another line of the program than at the last look, or that
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
    """Tell how often to beat so that a deadline of so many seconds is not missed by chance."""
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
    """Tell how many processes the kernel has killed for want of memory since it booted; None off Linux."""
    try:
        lines = VMSTAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def _whereabouts(thread: int) -> bytes:
    """Return where a thread stands: the lines on its stack.

    As faulthandler writes them, which touches nothing: to walk the frames of a running thread (`f_back`) has crashed
    CPython 3.11. Where nothing can be written it stands elsewhere each time, for a full disk is no hang.
    """
    try:
        with tempfile.TemporaryFile() as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            written = file.read()
    except OSError:
        return str(time.monotonic()).encode()
    return written.partition(f"{thread:x} ".encode())[2].partition(b"\n\n")[0]
