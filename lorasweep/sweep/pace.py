"""How long a trial still takes, from the steps seen so far. Knows nothing about trials or clocks."""

from __future__ import annotations

import math
from collections import deque

WINDOW = 64  # observations; at two a second, the pace of the last half minute


class Pace:
    """Steps per second over a sliding window."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=WINDOW)

    def saw(self, time_s: float, step: int) -> None:
        """Note that `step` was finished at `time_s` (any clock, as long as it is one clock)."""
        if not self._seen or step > self._seen[-1][1]:
            self._seen.append((time_s, step))

    def seconds_for(self, steps: int) -> float | None:
        """Estimate the time that `steps` more steps take, in s; None before two observations."""
        if len(self._seen) < 2:
            return None
        (first_s, first), (last_s, last) = self._seen[0], self._seen[-1]
        seconds = (last_s - first_s) / (last - first) * max(0, steps)
        return seconds if math.isfinite(seconds) else None
