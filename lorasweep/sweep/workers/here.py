"""This very process as the one worker: it cooks while the loop listens, which hears of everything at once.

Nothing here is lost, hangs or is killed; who wants to stop now raises KeyboardInterrupt (`StopSignal.raises`).
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lorasweep.sweep.launchers import LaunchOptions, Member, Message, Place, WorkerExit
from lorasweep.sweep.workers.line import DriverLine
from lorasweep.sweep.workers.stop import StopSignal
from lorasweep.sweep.workers.worker import Worker


class ThisProcess(DriverLine):
    """A `Launcher`, its one `Member`, and the worker's line, which leads to no other process and tells every step."""

    step_every_s = 0.0

    def __init__(self, options: LaunchOptions, stop: StopSignal, hear: Callable[[Member, Message], None]) -> None:
        """Have `hear` told what the worker says."""
        super().__init__(None)
        self.jobs = 1
        self.members: Sequence[Member] = [self]
        self.place: Place | None = Place()
        self.job: Any = None
        self.ready = self.stopping = self.leaving = False
        self.log = Path()
        self._options, self._stop, self._hear = options, stop, hear

    def __enter__(self) -> ThisProcess:
        return self

    def reach(self, *_: object) -> None:
        """Do nothing."""

    __exit__ = end_hung = replace = remove = kill = reach

    def waiting(self) -> str:
        """Return nothing."""
        return ""

    def death(self) -> WorkerExit:
        """Tell of what nobody is left to be told of."""
        return WorkerExit(cause="this process ended")

    def send(self, **message: Any) -> bool:
        """Have the worker take it in."""
        self.take({**message, "seat": 0})
        return True

    def listen(self, timeout_s: float) -> list[tuple[Any, Message | None]]:
        """Cook what was sent, with resources of its own: an error may have left an adapter in the base."""
        module = importlib.import_module(self._options.trial_module)
        if self.job is None:
            return [(self, {"kind": "ready"})]
        self._stop.raises = True
        try:
            Worker(module, module.TrialResources(), self, self._options.launcher).run()
        except KeyboardInterrupt:
            if not self._stop.now:
                raise
        finally:
            self._stop.raises = False
            gc.collect()  # a base and errors refer to themselves, and who comes next wants their memory
        return []

    def tell(self, **message: Any) -> None:
        """Have it heard; an end is noted in peace."""
        self._stop.raises = message["kind"] == "event"
        self._hear(self, message)

    def look(self) -> None:
        """See whether to stop, as if the driver were gone; what it says is taken in when it says it."""
        self.gone = self._stop.gently

    def receive(self) -> None:
        """End the worker, which would wait for what does not come."""
        self.gone = True
