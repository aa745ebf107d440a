"""A worker's signs of life and its appetite: is the main thread getting anywhere, is memory running away?

Knows nothing about trials or pipes.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

LONGEST_BEAT_S = 5.0
BEATS_PER_DEADLINE = 20
BUSY_SHARE = 0.05  # of a CPU core's time; waiting takes far less, computing more even on a crowded machine
VMSTAT = Path("/proc/vmstat")


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
