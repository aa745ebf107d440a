"""One driver per sweep or single run: an advisory lock that dies with its process, however that dies.

The lock is `<folder>/lock`; who holds it is written beside it, since Windows lets nobody read a locked file.
Knows nothing about what a driver does.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lorasweep.core.errors import InputError, LorasweepError, Problem, SweepHeldError
from lorasweep.core.run_folder import LOCK_FILE, OWNER_FILE

# `status` holds the lock for microseconds to see whether a driver is there: drivers wait that out, and other
# calls of `status` as well.
PATIENCE_S, LOOK_S = 1.0, 0.1


@contextmanager
def sweep_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a sweep or a single run.

    Raises:
        SweepHeldError: another driver holds it; says who.
        InputError: its file system has no locks.
        LorasweepError: the folder was taken away meanwhile, and something failed for it.
    """
    try:
        lock = FileLock(folder / LOCK_FILE).acquire(PATIENCE_S, poll_interval=0.05)
    except Timeout:
        raise SweepHeldError(
            f"{folder} is being cooked by {_owner(folder)}. Wait for it, or stop it with Ctrl-C; "
            "`lorasweep status` shows how far it is."
        ) from None
    except OSError as error:  # as of NFS without its lock daemon
        message = f"cannot be locked: {error.strerror or error}; two drivers would spoil each other's results"
        hint = "choose a folder on another file system with LORASWEEP_HOME=/some/folder"
        raise InputError(Problem(str(folder), message, hint), subject="the results") from error
    owner = folder / OWNER_FILE
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with lock:
        with suppress(OSError):  # a full disk: it is held all the same
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}", encoding="utf-8")
        try:
            yield
        except Exception as error:
            if (folder / LOCK_FILE).exists():
                raise
            told = "was moved or removed while it was being cooked: what was written there since may be in parts"
            raise LorasweepError(f"{folder} {told}. Put it back, or remove what is left, and run it again") from error
        finally:
            with suppress(OSError):
                owner.unlink()


def holder(folder: Path) -> str | None:
    """Say who is driving this sweep right now; None when nobody is."""
    return _owner(folder) if is_held(folder / LOCK_FILE) else None


def is_held(lock: Path) -> bool:
    """Tell whether a living process holds this lock."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock).acquire(LOOK_S, poll_interval=0.02):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _owner(folder: Path) -> str:
    try:
        return (folder / OWNER_FILE).read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"
