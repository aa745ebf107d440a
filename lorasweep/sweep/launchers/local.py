"""Worker processes on this machine."""

from __future__ import annotations

from lorasweep.sweep.launchers import LaunchOptions
from lorasweep.sweep.workers.pool import WorkerPool


def build(options: LaunchOptions) -> WorkerPool:
    """Make the pool; entering it starts the workers."""
    return WorkerPool(options)
