"""Ctrl-C, SIGTERM or a hang-up once: finish the step, save, stop. Twice: stop now.

Service managers, schedulers and terminals signal every process of a group. The driver alone answers; workers
ignore these signals (`ignore`), from before they can be hit (`blocked`), and end with their driver.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GENTLY = 1
NOW = 2
# Seconds within which a signal after another is the same wish: `timeout` signals its child and then the whole
# group, a terminal that closes hangs up twice. A person's second Ctrl-C may be quick.
SAME_WISH_S = {"SIGINT": 0.1, "SIGTERM": 1.0, "SIGHUP": 1.0}
# Those of this platform; Windows has no SIGHUP.
STOP_SIGNALS = tuple(getattr(signal, name) for name in SAME_WISH_S if hasattr(signal, name))


class StopSignal:
    """How urgently the person wants the sweep to stop; the driver looks at it several times a second."""

    def __init__(self) -> None:
        self.requests = 0
        self.raises = False  # KeyboardInterrupt when asked to stop now, since this very process trains
        self._last_s = float("-inf")

    def request(self) -> None:
        """Ask once more."""
        self.requests += 1
        self._last_s = time.monotonic()
        if self.now and self.raises:
            raise KeyboardInterrupt

    @property
    def gently(self) -> bool:
        """Whether no new work should be handed out."""
        return self.requests >= GENTLY

    @property
    def now(self) -> bool:
        """Whether workers should be killed."""
        return self.requests >= NOW

    @contextmanager
    def listening(self) -> Iterator[StopSignal]:
        """Count the stop signals as requests while the block runs; none outside the main thread.

        Raises:
            KeyboardInterrupt: once the block has ended, if one asked to stop now: the caller's program, too.
        """

        def on_signal(number: int, frame: FrameType | None) -> None:
            if time.monotonic() - self._last_s >= SAME_WISH_S[signal.Signals(number).name]:
                self.request()

        ours = threading.current_thread() is threading.main_thread()
        heeded = [number for number in STOP_SIGNALS if ours and _is_heeded(number)]
        before = {number: signal.signal(number, on_signal) for number in heeded}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if heeded and self.now:
            raise KeyboardInterrupt("stopped at once; the same command continues from what was saved")


def ignore() -> None:
    """Leave the stop signals to the driver."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def blocked() -> Iterator[None]:
    """Let a child start with the stop signals blocked, where the platform can."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        resource_tracker.ensure_running()  # which unblocks signals when it starts, so it starts first
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_heeded(number: int) -> bool:
    """Tell whether it means us: `nohup` has hang-ups ignored, but shells have SIGINT so for any background job."""
    return number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
