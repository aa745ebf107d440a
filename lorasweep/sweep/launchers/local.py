"""Worker processes on this machine."""

from __future__ import annotations

from lorasweep.sweep.workers.pool import PoolOptions, WorkerPool


def build(options: PoolOptions) -> WorkerPool:
    """Make the pool; entering it starts the workers."""
    return WorkerPool(options)
