"""Ctrl-C once: finish the step, save, stop. Twice: stop now."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GENTLY = 1
NOW = 2


class StopSignal:
    """How urgently the person wants the sweep to stop; the driver looks at it several times a second."""

    def __init__(self) -> None:
        self.requests = 0

    def request(self) -> None:
        """Ask once more."""
        self.requests += 1

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
        """Count SIGINT and SIGTERM as requests while the block runs; main thread only."""

        def on_signal(number: int, frame: FrameType | None) -> None:
            self.request()

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
