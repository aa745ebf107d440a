"""A sweep with a real worker on a tiny random base: run folders, status, contact sheet and MLflow agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorasweep.cli import main
from lorasweep.core import files

SWEEP = """\
sweep:
  question: Does a higher learning rate cook more?
  metric: {name: overcook/score, goal: minimize}
  seeds: [0]
  recipe:
    train.max_steps: 4
    train.rungs: 2
    train.batch_size: 2
    adapter.dim: 4
    dataset.dollhouse.images: 8
    sample.steps: 2
    sample.seeds: [0]
    sample.weights: [0.7]
    launcher.workers: 1
    metrics: [generalisation, prior_drift]
  arms:
    low: {optimizer.lr: 1e-5}
    high: {optimizer.lr: 1e-2}
"""


@pytest.fixture
def sweep_file(home: Path) -> Path:
    path = home / "tiny.yaml"
    path.write_text(SWEEP)
    return path


def test_an_unwritable_mlflow_loses_nothing_and_status_sheet_and_mirror_agree(
    home: Path, sweep_file: Path, on_tiny_sd: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "mlruns").mkdir()
    (home / "mlruns" / "mlflow.db").mkdir()  # no database can be made here, not even by root
    assert main(["sweep", str(sweep_file), *on_tiny_sd]) == 0
    said = capsys.readouterr()
    assert "lorasweep sync" in said.out + said.err

    (home / "mlruns" / "mlflow.db").rmdir()
    assert main(["sync", "tiny"]) == 0
    capsys.readouterr()
    assert main(["status", "tiny", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["counts"] == {"COMPLETED": 2}
    by_arm = {trial["arm"]: trial for trial in status["trials"]}
    assert set(by_arm) == {"low", "high"}
    assert (home / "outputs" / "tiny" / "contact_sheet.png").exists()

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlruns/mlflow.db")
    for trial in by_arm.values():
        assert trial["value"] == trial["metrics"]["overcook/score"]
        verdict = files.read_json(Path(trial["run_folder"]) / "metrics.json")["verdict"]
        assert verdict["state"] in ("undercooked", "done", "overcooked")
        run = client.get_run(trial["mlflow_run_id"])
        assert run.info.status == "FINISHED"
        assert run.data.metrics["overcook/score"] == pytest.approx(trial["value"], abs=1e-4)

    events = {p: p.read_bytes() for p in (home / "outputs" / "tiny").glob("*/events.jsonl")}
    assert main(["sweep", str(sweep_file), "--json", *on_tiny_sd]) == 0, "the same command again has nothing left to do"
    assert {p: p.read_bytes() for p in events} == events
