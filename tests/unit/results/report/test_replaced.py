"""`report -o` replaces reports, and nobody's own files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorasweep import cli

RUN = {"number": 0, "arm": "recipe", "seed": 0, "status": "COMPLETED", "fingerprint": "f", "steps": 4}


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORASWEEP_HOME", str(tmp_path))
    run = tmp_path / "outputs" / "train" / "0-s0"
    run.mkdir(parents=True)
    (run / "status.json").write_text(json.dumps(RUN | {"attempt": 1}))


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_a_file_of_ones_own_is_not_replaced(
    name: str, tmp_path: Path, sweep: None, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "shared" / name
    own.parent.mkdir()
    own.write_text("# My thesis\n")

    assert cli.main(["report", "train", "-o", str(own.parent)]) == 2

    assert f"{own} is there already" in capsys.readouterr().err
    assert [file.read_text() for file in own.parent.iterdir()] == ["# My thesis\n"]


def test_a_report_is_replaced(tmp_path: Path, sweep: None) -> None:
    for _ in range(2):
        assert cli.main(["report", "train", "-o", str(tmp_path / "shared")]) == 0
