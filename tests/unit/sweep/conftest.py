"""Makes the pretend sweep and its resources importable, here and in workers, and spares them what is the same again."""

from __future__ import annotations

import sys
from pathlib import Path

import optuna_migrations  # noqa: F401
import pytest
import ready_processes

from lorasweep.sweep.workers import pool

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def ready_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start workers that have imported: hundreds take longer over it than over a trial that is pretended."""
    ready_processes.start_ready(monkeypatch, pool)
