"""Tells the outside how the sweep is getting on: snapshots, leaderboard.json, the end of trials; and a tracker.

Knows nothing about workers. A tracker (see `lorasweep.results.tracking`) follows the run folders and never blocks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lorasweep.core.run_folder import LEADERBOARD_FILE
from lorasweep.sweep.queue import Trial
from lorasweep.sweep.ranking import leaderboard
from lorasweep.sweep.ranking.state import SweepState, from_trial, sweep_state
from lorasweep.sweep.retry import is_disk_full
from lorasweep.sweep.workers.stop import NOW, StopSignal

if TYPE_CHECKING:
    from lorasweep.sweep.trials import TrialSource

SHOW_SHARE, RANK_SHARE = 0.1, 0.1
log = logging.getLogger(__name__)


class _Sparingly:
    """Does something so often that it takes no more than a share of all time."""

    def __init__(self, share: float) -> None:
        self._share, self._next = share, 0.0

    def do(self, action: Callable[[], object]) -> None:
        began = time.monotonic()
        if began >= self._next:
            action()
            ended = time.monotonic()
            self._next = ended + (ended - began) / self._share


class Announcer:
    """Holds the callbacks of `run_sweep`.

    Attributes:
        error: what the caller's own raised, which stops all at once: no fault of a recipe.
    """

    def __init__(
        self,
        source: TrialSource,
        stop: StopSignal,
        *,
        on_change: Callable[[SweepState], None] | None = None,
        on_trial_end: Callable[[], object] | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> None:
        self.error: BaseException | None = None
        self._source, self._stop = source, stop
        self._on_change, self._on_trial_end, self._on_end = on_change, on_trial_end, on_end
        self._behind = True  # what follows from the trials does not show all of them
        self._ended: Trial | None = None  # the latest one that was not ranked
        self._show, self._rank = _Sparingly(SHOW_SHARE), _Sparingly(RANK_SHARE)
        self.notes: list[str] = []

    def changed(self, activity: str) -> None:
        """Show a snapshot, and rank what has ended: called when all that can cook is cooking.

        Ranking and the caller's hook look at all trials, so with many trials they are put off, at the latest
        until `close`.
        """
        if self._ended is not None:
            when = f"after trial {self._ended.number}"
            self._rank.do(lambda: self._catch_up(when))
        if (show := self._on_change) is not None:
            self._show.do(lambda: self._call(lambda: show(self.snapshot(activity))))

    def heard(self, event: dict[str, Any]) -> bool:
        """Tell of an event of a trial; returns whether it goes on."""
        return True

    def trial_ended(self, trial: Trial) -> None:
        """Note it, for `changed` to rank and to run the caller's hook, whose errors must not cost a trial."""
        self._behind, self._ended = True, trial

    def outdated(self) -> None:
        """Note that what follows from the trials lacks something that has come since; `close` will mend it."""
        self._behind = True

    def close(self) -> None:
        """Bring leaderboard and hook up to date, also for ends that an earlier driver did not announce."""
        if self._behind:
            self._catch_up("at the end")
        if (show := self._on_change) is not None:
            self._call(lambda: show(self.snapshot()))
        self._call_hook("at the end", self._on_end)

    def _catch_up(self, when: str) -> None:
        self._behind, self._ended = False, None
        try:
            leaderboard.write(self._source.folder, self.snapshot())
        except OSError as error:  # it follows from the run folders, which matter more
            self.note(f"{LEADERBOARD_FILE} could not be written: {error.strerror or error}")
        self._call_hook(when, self._on_trial_end)

    def note(self, text: str) -> None:
        """Let people know something, once."""
        if text not in self.notes:
            self.notes.append(text)

    def _call(self, callers: Callable[[], object]) -> object:
        """Call what is the caller's own; its errors stop all at once, and so does `sys.exit`."""
        try:
            return callers()
        except BaseException as error:
            if not (self._stop.now and isinstance(error, KeyboardInterrupt)):
                self.error = self.error or error
            for _ in range(NOW):
                self._stop.request()
            return None

    def _call_hook(self, when: str, hook: Callable[[], object] | None) -> None:
        if hook is None:
            return
        try:
            hook()
        except Exception as error:
            if not is_disk_full(error):  # which says enough by itself
                log.exception("the hook failed %s", when)
            self.note(f"{when}: {type(error).__name__}: {error}")

    def snapshot(self, activity: str = "") -> SweepState:
        """Return the sweep as the driver sees it now."""
        source, seeds = self._source, self._source.spec.seeds
        trials = tuple(from_trial(trial, extra=trial.record.seed not in seeds) for trial in source.trials)
        left_out, notes = source.left_out, tuple(self.notes)
        return sweep_state(source.spec, source.folder, trials, left_out=left_out, activity=activity, notes=notes)


HURRY_S = 2.0  # to finish when the person wants to leave at once


@dataclass(frozen=True)
class MirrorReport:
    """How mirroring went."""

    ok: bool = True  # whether the tracker shows everything
    message: str = ""  # for people: where to look, or what is missing and the command that repairs it


class Mirror(Protocol):
    """A tracker that reads the run folders of one sweep; none of its methods raises."""

    def start(self) -> None:
        """Begin."""

    def finish(self, timeout_s: float) -> MirrorReport:
        """Bring the tracker up to date, waiting at most so long."""


def last_look(mirror: Mirror | None, timeout_s: float, *, hurry: bool) -> MirrorReport:
    """Let a tracker finish, quickly when the person is in a hurry."""
    return MirrorReport() if mirror is None else mirror.finish(min(timeout_s, HURRY_S) if hurry else timeout_s)
