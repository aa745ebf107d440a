"""How long a trial still takes, from what was seen of it so far. Knows nothing about trials or clocks."""

from __future__ import annotations


class Pace:
    """Mean seconds per step since the first observation, the judging between steps included."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    def saw(self, time_s: float, step: int) -> None:
        """Note that it had finished `step` steps at `time_s` (any clock, as long as it is one clock)."""
        self._first = self._first or (time_s, step)
        self._last = (time_s, step)

    def seconds_for(self, steps: int) -> float | None:
        """Estimate the time that `steps` more steps take, in s; None before a step was seen."""
        if self._first is None or self._last is None or self._last[1] <= self._first[1]:
            return None
        (first_s, first), (last_s, last) = self._first, self._last
        return (last_s - first_s) / (last - first) * max(0, steps)
