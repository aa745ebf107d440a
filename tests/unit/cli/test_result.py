"""How a single recipe came out, with what to type next."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasweep.cli import cook_commands
from lorasweep.core import files
from lorasweep.core.records import Status
from lorasweep.core.run_folder import TrialRecord
from lorasweep.results.handles import EndedRun
from lorasweep.sweep.ranking.announce import MirrorReport
from lorasweep.sweep.single import TrialResult


@pytest.mark.parametrize(
    ("status", "last"),
    [
        ("COMPLETED", "next        lorasweep report train; lorasweep export train/1a2b-s0"),
        ("CANCELLED", "next        the same command goes on where it stopped"),
        ("DIVERGED", "MLflow      1 run"),
    ],
)
def test_the_last_line_says_what_to_type_next(
    home: Path, capsys: pytest.CaptureFixture[str], status: str, last: str
) -> None:
    folder = home / "outputs" / "train" / "1a2b-s0"
    verdict = {"sentence": "Done at step 8; use it at 0.7."}
    metrics = {"overcook/score": 0.1, "overcook/score_se": 0.02}
    files.write_json(folder / "metrics.json", {"metrics": metrics, "missing": {}, "verdict": verdict})

    record = TrialRecord(number=0, arm="train", seed=0, status=Status(status), fingerprint="")
    cook_commands.print_result(
        EndedRun(folder, TrialResult(record=record, cooked=True, mirrored=MirrorReport(True, "1 run")))
    )

    told = capsys.readouterr().out.splitlines()
    assert told[:2] == [status, "Done at step 8; use it at 0.7."]
    assert told[2].split(maxsplit=1)[1] == "0.100, standard error 0.020" and told[-1] == last
