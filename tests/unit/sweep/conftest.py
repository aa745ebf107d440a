"""Makes the pretend sweep and its resources importable, here and in workers, and spares them what is the same again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ready_processes
from optuna.storages._rdb.storage import _VersionManager

from lorasweep.sweep.workers import pool

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def ready_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start workers that have imported: hundreds take longer over it than over a trial that is pretended."""
    ready_processes.start_ready(monkeypatch, pool)


@pytest.fixture(scope="session", autouse=True)
def migrations_read_once() -> Iterator[None]:
    """Have Optuna read once, and not for each study that it opens, how its tables have changed."""
    read, found = _VersionManager._create_alembic_script, []

    def script(manager):
        if not found:
            found.append(read(manager))
        return found[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_VersionManager, "_create_alembic_script", script)
        yield
