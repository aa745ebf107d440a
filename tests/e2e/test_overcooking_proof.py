"""One run of the overcooking proof, trained, witnessed and read back; too small to prove any claim."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.overcooking import controls, cooking, grid, table
from benchmarks.overcooking.witness import Counts
from lorasweep.core import files
from lorasweep.core.records import to_dict

COUNTS = Counts(trained=2, recombined=2, stranger=2, open=2, plain=2, replicas=1)


@pytest.mark.slow
def test_a_run_and_the_controls_are_judged_and_witnessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORASWEEP_HOME", str(tmp_path))
    setting = grid.Setting(steps=2, rungs=1)
    files.write_json(tmp_path / table.SETTINGS, to_dict(setting))
    run = grid.runs(setting=setting)[0]
    said = cooking.cook_one(run, tmp_path, until=time.time() + 600, counts=COUNTS)
    assert said.startswith("COMPLETED"), (tmp_path / "runs" / run.name / "error.txt").read_text()
    (found,) = table.load(tmp_path)
    assert found.ended and found.step == 2 and "overcook/score" in found.metrics
    assert 0 <= found.truth.identity < 0.3 and found.cpu_s > 0
    planted = [run for run in controls.runs(tmp_path, setting=setting) if run.planted]
    for run in planted:
        assert cooking.cook_one(run, tmp_path, until=time.time() + 600, counts=COUNTS).startswith("COMPLETED")
    judged = {row["control"]: row for row in controls.judged(table.load(tmp_path, table.CONTROL))}
    assert set(judged) == set(controls.PLANTED) and judged["base"]["right"] and judged["copier"]["right"]
