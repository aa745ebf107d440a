"""What the engine asks of a tracker (see `lorasweep.results.tracking`): follow the run folders, never block."""

from __future__ import annotations

from typing import Protocol

HURRY_S = 2.0  # to finish when the person wants to leave at once


class MirrorReport(Protocol):
    """How mirroring went."""

    @property
    def ok(self) -> bool:
        """Whether everything arrived."""

    @property
    def message(self) -> str:
        """For people: where to look, or what did not arrive and how to repair it."""


class Mirror(Protocol):
    """A tracker that reads the run folders of one sweep; none of its methods raises."""

    def start(self) -> None:
        """Begin."""

    def finish(self, timeout_s: float) -> MirrorReport:
        """Bring the tracker up to date, waiting at most so long."""


def last_look(mirror: Mirror | None, timeout_s: float, *, hurry: bool) -> MirrorReport | None:
    """Let a tracker finish, quickly when the person is in a hurry; None where there is none."""
    return None if mirror is None else mirror.finish(min(timeout_s, HURRY_S) if hurry else timeout_s)
