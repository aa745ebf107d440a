"""One driver per sweep or single run: an advisory lock that dies with its process, however that dies.

Knows nothing about what a driver does.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from lorasweep.core.errors import SweepHeldError

LOCK_FILE = "lock"
# `status` takes a shared lock for microseconds to see whether a driver is there; a driver waits that out.
PATIENCE_S = 1.0


class SweepLock:
    """Context manager that holds `<folder>/lock`, of a sweep or a single run.

    Raises:
        SweepHeldError: on entering, when another driver holds it; the message says who.
    """

    def __init__(self, sweep_folder: Path) -> None:
        self._path = sweep_folder / LOCK_FILE
        self._file: IO[str] | None = None

    def __enter__(self) -> SweepLock:
        file = open(self._path, "a+", encoding="utf-8")  # noqa: SIM115 - lives as long as the lock
        deadline = time.monotonic() + PATIENCE_S
        while not _try_lock(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                who = _owner(file)
                file.close()
                raise SweepHeldError(
                    f"{self._path.parent} is being cooked by {who}. Wait for it, or stop it with Ctrl-C; "
                    "`lorasweep status` shows how far it is."
                )
            time.sleep(0.05)
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        self._file = file
        with suppress(OSError):  # a full disk: it is held all the same
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()} since {since}".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def holder(sweep_folder: Path) -> str | None:
    """Say who is driving this sweep right now; None when nobody is."""
    try:
        with open(sweep_folder / LOCK_FILE, encoding="utf-8") as file:
            return None if _try_lock(file, fcntl.LOCK_SH) else _owner(file)
    except OSError:
        return None


def _try_lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "another process"
