"""What the engine asks of a tracker (see `lorasweep.results.tracking`): follow the run folders, never block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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
