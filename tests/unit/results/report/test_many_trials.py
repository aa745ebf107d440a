"""A report of many trials: what their recipes share is worked out once."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep_folders import Cooked, write_sweep

from lorasweep import cli
from lorasweep.config import recipe_file


def test_a_report_compares_equal_groups_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compared(name: str, seeds: int) -> int:
        calls = []
        real = recipe_file._distance
        write_sweep(home / "outputs" / name, [Cooked(arm="a", seed=seed, pictures=False) for seed in range(seeds)])
        with monkeypatch.context() as patched:
            patched.setattr(recipe_file, "_distance", lambda *given: calls.append(0) or real(*given))
            assert cli.main(["report", name]) == 0
        return len(calls)

    assert 0 < compared("one", 1) == compared("five", 5)
