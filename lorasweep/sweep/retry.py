"""What the end of an attempt means: for its trial, final or cooked again; for the sweep and for its node. Pure.

    InputError                        the recipe or the data   INVALID, never cooked again
    MemoryError, CUDA, CPU allocator  too big                  OUT_OF_MEMORY, never cooked again
    anything else                     unknown                  CRASHED, cooked again a few times

A full disk is nobody's fault and everybody's problem, so it is told apart: `is_disk_full`. A loss that is
NaN raises nothing; `run.cooking` ends it as DIVERGED. Knows nothing about files, processes or Optuna.
"""

from __future__ import annotations

import dataclasses
import errno
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

from lorasweep.core.errors import InputError
from lorasweep.core.paths import NO_ROOM, make_room
from lorasweep.core.records import Outcome, Status
from lorasweep.core.run_folder import TrialRecord

RETRIES = 2  # further attempts after a crash, without a rung between them
ALIKE_STOPS = 3  # trials that fail alike, one after the other, stop the sweep
EARLY_DEATHS = 3  # workers of a node that die before they can cook, one after the other
ALIKE_BENCHES = 2  # trials that crash alike on one node and on no other
MEASURED = (Status.COMPLETED, Status.PRUNED)
DRIVER_GONE = "its driver is gone; run the same command to continue"
FAILURES = (Status.CRASHED, Status.INVALID, Status.OUT_OF_MEMORY)
# How libraries say it that have no exception class of their own for it: safetensors' Rust, SQLite.
DISK_FULL_WORDS = (
    *("no space left on device", "disk quota exceeded", "file too large"),
    *("database or disk is full", "disk i/o error"),
)
# torch's CPU allocator; CUDA, HIP and MPS where they raise no torch.OutOfMemoryError; cuBLAS and cuDNN.
MEMORY_WORDS = ("can't allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")


def next_record(record: TrialRecord, outcome: Outcome, *, metric: str, now_s: float) -> TrialRecord:
    """Work out where a trial stands after an attempt, of which `record` is the RUNNING one; `now_s` is unix time, s.

    A crash leaves it WAITING while retries remain: the next attempt continues from its last checkpoint.
    Retries are counted between rungs, so that a long trial on a shaky machine gets there.
    """
    crashed = outcome.status is Status.CRASHED
    crashes = record.crashes + crashed
    again = crashed and crashes <= RETRIES
    value = outcome.metrics.get(metric, outcome.value) if outcome.status in MEASURED else None
    if value is not None and not math.isfinite(value):
        value = None
    reason = outcome.reason
    if again:
        reason = f"attempt {record.attempt} crashed, queued again: {reason}"
    elif crashed and crashes > 1:
        reason = f"{reason} ({crashes} crashes)"
    elif outcome.status is Status.COMPLETED and value is None:
        reason = f"{metric} could not be measured: {outcome.missing.get(metric, 'no metric gives it')}"
    return dataclasses.replace(
        record,
        status=Status.WAITING if again else outcome.status,
        step=max(record.step, outcome.step),
        crashes=crashes,
        reason=reason,
        value=value,
        ended_at=None if again else now_s,
    )


def status_of_death(record: TrialRecord, *, starved: bool) -> Status:
    """Say what the death of its worker means for a trial.

    Memory may have been short for the neighbours' sake, so a kill by the kernel for want of it is a crash at
    first, like any other; when retries meet the same end, it is the trial that takes too much.
    """
    return Status.OUT_OF_MEMORY if starved and record.crashes >= RETRIES else Status.CRASHED


class FailureWatch:
    """Notices that trial after trial fails in the same way, so that the rest is not wasted."""

    def __init__(self) -> None:
        self._kind = ""
        self._count = 0

    def saw(self, record: TrialRecord) -> str:
        """Look at a trial that ended for good; returns why the sweep should stop, empty when it should go on."""
        if record.status not in FAILURES:
            self._kind, self._count = "", 0
            return ""
        kind = f"{record.status} {kind_of(record.reason)}"
        self._count = self._count + 1 if kind == self._kind else 1
        self._kind = kind
        if self._count < ALIKE_STOPS:
            return ""
        return (
            f"{self._count} trials in a row ended {record.status} alike: {record.reason}. "
            "Mend the cause and run the same command to continue; it tries crashed trials again, and others "
            "once their run folder is deleted."
        )


class NodeWatch:
    """Counts failures by node: one where trials fail that run elsewhere is benched, before the sweep is stopped.

    A node without a name, this machine, is a node like any other.

    Attributes:
        benched: node -> why it gets no more work.
    """

    def __init__(self) -> None:
        self.benched: dict[str, str] = {}
        self._early: Counter[str] = Counter()
        self._crashed: defaultdict[str, defaultdict[str, set[int]]] = defaultdict(lambda: defaultdict(set))

    def fine(self, node: str, *, done: bool = False) -> None:
        """Note that a worker there gets on; `done`: it has completed a trial."""
        self._early[node] = 0
        if done:
            for crashed in self._crashed.values():
                crashed.pop(node, None)

    def died_early(self, node: str) -> bool:
        """Note that a worker died before it could cook; returns whether that was once too often."""
        self._early[node] += 1
        return self._early[node] >= EARLY_DEATHS

    def crashed(self, node: str, trial: int, kind: str) -> bool:
        """Note that an attempt crashed; returns whether it looks like the node's fault."""
        places = self._crashed[kind]
        places[node].add(trial)
        return len(places[node]) >= ALIKE_BENCHES and set(places) == {node}

    def bench(self, node: str, why: str, *, nodes: Collection[str]) -> bool:
        """Give a node no more work, unless it is the last one of `nodes`; returns whether it is benched."""
        if not set(nodes) - {node, *self.benched}:
            return False
        self.benched.setdefault(node, why)
        return True


def kind_of(reason: str) -> str:
    """Reduce a reason to what failures of one kind share: bytes wanted, paths and steps differ in numbers."""
    return re.sub(r"[0-9]+", "#", reason)


def status_of(error: BaseException) -> Status:
    """Say how a trial ended that ended with `error`."""
    if isinstance(error, InputError):
        return Status.INVALID
    return Status.OUT_OF_MEMORY if _is_out_of_memory(error) else Status.CRASHED


def is_disk_full(error: BaseException) -> bool:
    """Tell whether `error`, or what it was raised from, is a disk or a quota without room."""
    return _of_a_full_disk(error) is not None


def _of_a_full_disk(error: BaseException) -> BaseException | None:
    """Return what says it, of an error and what it was raised from: the last, which says it best."""
    found = [
        each
        for each in _chain(error)
        if (isinstance(each, OSError) and each.errno in NO_ROOM)
        or any(words in str(each).lower() for words in DISK_FULL_WORDS)
    ]
    return found[-1] if found else None


def disk_full(sweep_folder: Path, reason: str, *, node: str = "") -> str:
    """Explain to a person why a sweep stopped that had no room to write, here or on a worker's machine."""
    how = make_room(reason)
    return (
        f"there is no room left {f'on {node}' if node else f'where {sweep_folder} is'} ({reason}). "
        f"{how[0].upper()}{how[1:]} and run the same command: everything that was finished is kept, the rest goes on."
    )


def one_line(error: BaseException) -> str:
    """Say what went wrong in one line; the traceback is in error.txt."""
    error = _of_a_full_disk(error) or error  # which Optuna calls invalid data
    if isinstance(error, InputError):
        return "; ".join(str(problem) for problem in error.problems)
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _is_out_of_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # if nobody imported it, it raised nothing
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in MEMORY_WORDS)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
