"""What an exception means for its trial: whose fault it is, in one word and one line. Pure.

    InputError                        the recipe or the data   INVALID, never cooked again
    MemoryError, CUDA, CPU allocator  too big                  OUT_OF_MEMORY, never cooked again
    anything else                     unknown                  CRASHED, cooked again a few times

A full disk is nobody's fault and everybody's problem, so it is told apart: `is_disk_full`. A loss that is
NaN raises nothing; `run.cook` ends it as DIVERGED. Knows nothing about processes or Optuna.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path

from lorasweep.core.errors import InputError
from lorasweep.core.records import Status

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
# How libraries say it that have no exception class of their own for it: safetensors' Rust, SQLite.
DISK_FULL_WORDS = ("no space left on device", "disk quota exceeded", "database or disk is full")
# torch's CPU allocator; CUDA, HIP and MPS where they raise no torch.OutOfMemoryError; cuBLAS and cuDNN.
MEMORY_WORDS = ("can't allocate memory", "out of memory", "_STATUS_ALLOC_FAILED")


def status_of(error: BaseException) -> Status:
    """Say how a trial ended that ended with `error`."""
    if isinstance(error, InputError):
        return Status.INVALID
    return Status.OUT_OF_MEMORY if _is_out_of_memory(error) else Status.CRASHED


def is_disk_full(error: BaseException) -> bool:
    """Whether `error`, or what it was raised from, is a disk or a quota without room."""
    return any(
        (isinstance(each, OSError) and each.errno in DISK_FULL)
        or any(words in str(each).lower() for words in DISK_FULL_WORDS)
        for each in _chain(error)
    )


def disk_full(sweep_folder: Path, reason: str) -> str:
    """Explain to a person why a sweep stopped that had no room to write."""
    return (
        f"there is no room left where {sweep_folder} is ({reason}). "
        "Free some space and run the same command: everything that was finished is kept, the rest goes on."
    )


def one_line(error: BaseException) -> str:
    """Say what went wrong in one line; the traceback is in error.txt."""
    if isinstance(error, InputError):
        return "; ".join(str(problem) for problem in error.problems)
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _is_out_of_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # if nobody imported it, it raised nothing
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in MEMORY_WORDS)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
