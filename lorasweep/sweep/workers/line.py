"""The worker's end of the pipe to its driver: messages sorted by the seat that they are for.

Knows nothing about what a trial is.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

STEP_EVENT_EVERY_S = 0.5


class DriverLine:
    """The worker's end of the pipe: events up, jobs, verdicts and stops down."""

    step_every_s = STEP_EVENT_EVERY_S  # of a job's steps, one in so many seconds is told

    def __init__(self, connection: Any) -> None:
        self._connection = connection  # a `Connection`; None where driver and worker are one process
        self._jobs: deque[tuple[Seat, dict[str, Any]]] = deque()
        self._seats: dict[int, Seat] = {}
        self._sending = threading.Lock()  # the heart beats in a thread of its own
        self.gone = False  # the driver is

    def tell(self, **message: Any) -> None:
        """Send upwards; silence when the driver is gone, which `should_stop` then says."""
        try:
            with self._sending:
                self._connection.send(message)
        except OSError:
            self.gone = True

    def next_job(self, may: Callable[[dict[str, Any]], bool], *, wait: bool) -> tuple[Seat, dict[str, Any]] | None:
        """Take the next job, if it `may` begin now; waited for, None means that the driver is gone."""
        while wait and not self._jobs and not self.gone:
            self.receive()
        return self._jobs.popleft() if self.has_job(may) else None

    def has_job(self, may: Callable[[dict[str, Any]], bool]) -> bool:
        """Tell whether `next_job` has one, without waiting."""
        self.look()
        return bool(self._jobs) and may(self._jobs[0][1])

    def look(self) -> None:
        """Take in what has arrived; cheap enough for every step."""
        while not self.gone and self._connection.poll():
            self.receive()

    def receive(self) -> None:
        """Wait for a message, and take it in."""
        try:
            message = self._connection.recv()
        except (EOFError, OSError):
            self.gone = True
            return
        self.take(message)

    def take(self, message: dict[str, Any]) -> None:
        """Take in a message."""
        number = message.pop("seat")
        if message["kind"] == "verdict":
            self._seats[number].verdicts.append(bool(message["go"]))
        elif message["kind"] == "stop":
            self._seats[number].stopped = True
        else:  # a seat of its own, so that what was meant for an earlier job does not reach it
            self._seats[number] = Seat(number, self)
            self._jobs.append((self._seats[number], message))


class Seat:
    """What one job says and is told.

    Attributes:
        rungs: of its trial.
        stopped: it should end.
        verdicts: that have come and were not asked for yet.
    """

    def __init__(self, number: int, line: DriverLine) -> None:
        self.number, self._line = number, line
        self.rungs: frozenset[int] = frozenset()
        self.stopped = False
        self.verdicts: deque[bool] = deque()
        self._last_step_s = 0.0

    def send(self, **message: Any) -> None:
        """Send upwards."""
        self._line.tell(seat=self.number, **message)

    def report(self, event: dict[str, Any]) -> bool:
        """Pass an event of `run.cooking` on, and for a rung, wait for the verdict; returns whether to go on."""
        if event["kind"] == "step":
            now = time.monotonic()
            if now - self._last_step_s < self._line.step_every_s and event["step"] not in self.rungs:
                return True
            self._last_step_s = now
        self.send(kind="event", event=event)
        return self._verdict() if event["kind"] == "rung" else True

    def should_stop(self) -> bool:
        """Tell whether the driver asked to stop, or is gone."""
        self._line.look()
        return self.stopped or self._line.gone

    def _verdict(self) -> bool:
        while not self.verdicts and not self._line.gone:
            self._line.receive()
        # A trial whose driver is gone is not pruned: it stops at the next `should_stop`, to be continued.
        return self.verdicts.popleft() if self.verdicts else True
