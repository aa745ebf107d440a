"""benchmarks/gpu.py runs small where there is no GPU, and names what the time was too short for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gpu


def test_a_small_run_fills_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of it, by hand: `python benchmarks/gpu.py --small --seconds 200`."""
    assert gpu.main(["--small", "--device=cpu", "--seconds=4", "--shapes=sd15", f"--out={tmp_path}"]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    first, *_, last = found["rows"]
    assert first["samples_per_s"] > 0 and 0 < first["share"] and first["case"] == "batch"
    assert last["not_measured"] == "no time left"
    table = (tmp_path / "gpu.md").read_text()
    assert table in capsys.readouterr().out and table.count("\n|") == 2 + len(found["rows"])
