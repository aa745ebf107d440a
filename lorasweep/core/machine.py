"""The machine's memory, of which a container may have a part. No torch."""

from __future__ import annotations

from pathlib import Path

import psutil

_GROUP = Path("/sys/fs/cgroup")


def total_bytes() -> int:
    """Return bytes that all processes together may take."""
    total, limit = int(psutil.virtual_memory().total), _read("memory.max")
    return total if limit is None else min(total, limit)


def free_bytes() -> int:
    """Return bytes that can be had without swapping."""
    free, limit, used = int(psutil.virtual_memory().available), _read("memory.max"), _read("memory.current")
    return free if limit is None or used is None else min(free, limit - used)


def _read(name: str) -> int | None:
    try:
        return int((_GROUP / name).read_text(encoding="ascii"))
    except (OSError, ValueError):  # no container, or one without a limit
        return None
