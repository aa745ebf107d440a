"""Rows in a log that are not the log's own: skipped and named by whatever reads it, whatever is in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasweep.cli import main
from lorasweep.core.run_folder import SweepFolder
from tests.sweep_folders import Cooked, write_sweep

FOREIGN = [
    "not JSON at all \x1b[31m",
    "[1, 2]",
    "null",
    "{}",
    '{"loss": 0.1}',
    '{"kind": "step"}',
    '{"kind": ["step"], "time": 1, "step": 1}',
    '{"kind": "step", "time": 1, "step": "two", "metrics": {}}',
    '{"kind": "step", "time": 1, "step": 2, "metrics": {"train/loss": "low"}}',
    '{"kind": "step", "time": 1, "step": 3}',
    '{"kind": "rung", "time": 1, "step": 3, "metrics": {}}',
    '{"kind": "rung", "time": 1, "step": 4, "exposures_per_image": 1, "metrics": [1]}',
]


def test_foreign_events_are_skipped_and_named(
    home: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_sweep(home / "outputs" / "s", [Cooked(arm="a"), Cooked(arm="b", status="RUNNING", rungs=(80,))])
    for run in SweepFolder(folder).runs:
        with open(run.path / "events.jsonl", "a", encoding="utf-8") as log:
            log.write("\n".join([*FOREIGN, '{"kind": "step", "time": 1795000000, "step": 90, "metrics": {}}', ""]))
        (run.path / "metrics.json").unlink(missing_ok=True)

    for command in ("status", "report"):
        assert main([command, "s"]) == 0, capsys.readouterr().err
    named = [record.getMessage() for record in caplog.records]
    for run in SweepFolder(folder).runs:
        assert len([text for text in named if str(run.path / "events.jsonl") in text]) == len(FOREIGN)
    assert "\x1b" not in "".join(named)
    assert main(["status", "s", "--json"]) == 0
    assert '"step": 90' in capsys.readouterr().out


def test_foreign_lines_of_asked_trials_are_skipped_and_named(
    home: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_sweep(home / "outputs" / "s", [Cooked(arm="a")])
    row = '"number": 1, "arm": "x"'
    lines = [f"{{{row}}}", f'{{{row}, "seeds": 3}}', f'{{{row}, "seeds": [1], "a": 2}}']
    (folder / "asked.jsonl").write_text("\n".join([*FOREIGN[:4], *lines, ""]), encoding="utf-8")
    assert main(["status", "s"]) == 0
    assert len({record.getMessage() for record in caplog.records}) == 7
