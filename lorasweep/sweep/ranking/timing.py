"""timing.json: how long a sweep was said to take, and how long it took, over all the times it was continued.

So that people know what an estimate on their machine is worth. Knows nothing about how either comes about.
"""

from __future__ import annotations

import time
from pathlib import Path

from lorasweep.core.files import write_json
from lorasweep.core.run_folder import TIMING_FILE, SweepFolder


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self, sweep_folder: Path, estimated_s: float | None) -> None:
        """Start; the estimate of a sweep that was begun before stays what it was then."""
        self._path = sweep_folder / TIMING_FILE
        self._before = SweepFolder(sweep_folder).timing
        self._estimated_s = self._before.get("estimated_s", estimated_s)
        self._began_s = time.monotonic()

    def stop(self, *, done: bool) -> None:
        """Write what has passed; `done`: every trial has its end, so that the error is known."""
        if done and self._before.get("done"):
            return  # looking at it again is not cooking
        passed_s = time.monotonic() - self._began_s + self._before.get("real_s", 0.0)
        data = {"estimated_s": self._estimated_s, "real_s": round(passed_s, 1), "done": done}
        if done and self._estimated_s:
            data["error"] = round(passed_s / self._estimated_s - 1, 3)  # 0.5: it took half as long again
        write_json(self._path, data)
