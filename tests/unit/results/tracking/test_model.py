"""The best adapter as a model in MLflow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from lorasweep.core import files
from lorasweep.core.records import TrackingOptions
from lorasweep.results.tracking.mirror import LOADER, sync_sweep


def models(held: Any) -> list[Any]:
    return list(held.client.search_logged_models([held.experiment.experiment_id]))


def test_the_best_adapter_is_a_model_once(make_sweep: Callable[..., Any], holdings: Callable[[], Any]) -> None:
    sweep = make_sweep()
    for _ in range(2):
        assert sync_sweep(sweep.folder, TrackingOptions()).problems == []
    held = holdings()
    (model,) = models(held)
    best = next(run for run in held.children.values() if run.data.tags["lorasweep.rank"] == "1")
    assert model.source_run_id == best.info.run_id
    assert model.name == "quickstart-best" and model.model_type == "lora adapter"
    folder = Path(model.artifact_location.removeprefix("file://"))
    described = yaml.safe_load((folder / "MLmodel").read_text())
    file = folder / described["flavors"]["lorasweep"]["file"]
    assert described["flavors"]["lorasweep"]["weight"] == 0.7
    assert described["flavors"]["python_function"]["loader_module"] == LOADER
    assert "lorasweep==" in (folder / "requirements.txt").read_text()
    assert {path.name for path in file.parent.iterdir()} == {"adapter.safetensors", "recipe.yaml", "metrics.json"}
    assert [output.model_id for output in best.outputs.model_outputs] == [model.model_id], "the run shows it"
    shown = {metric.key: metric.value for metric in model.metrics}
    headline = ("overcook/utility", "overcook/score", "identity/score")
    assert shown == {key: best.data.metrics[key] for key in headline}, "so that models can be sorted"
    assert len(held.history(best, "overcook/utility")) == 1, "and the run has no number twice"
    assert "lorasweep export quickstart/" in model.tags["mlflow.note.content"], "what to do with it"
    trial = sweep.folder / best.data.tags["lorasweep.trial"]
    assert file.read_bytes() == (trial / "adapter.safetensors").read_bytes()


def test_an_unfinished_sweep_has_none(make_sweep: Callable[..., Any], holdings: Callable[[], Any]) -> None:
    sweep = make_sweep(cooked=False)
    sweep.complete(0)
    sync_sweep(sweep.folder, TrackingOptions())
    assert models(holdings()) == []


def test_a_leaderboard_that_is_behind_makes_none(make_sweep: Callable[..., Any], holdings: Callable[[], Any]) -> None:
    sweep = make_sweep()
    board = sweep.folder / "leaderboard.json"
    rows = files.read_json(board)["trials"]
    ahead = {row["number"]: row for row in rows}[0] | {"rank": 1, "status": "COMPLETED"}
    behind = [{"rank": None, "number": number, "status": "RUNNING"} for number in range(1, len(rows))]
    files.write_json(board, {"trials": [ahead, *behind]})  # the others ended since
    sync_sweep(sweep.folder, TrackingOptions())
    assert models(holdings()) == [], "who is best is not known yet"
    sweep.rank()
    sync_sweep(sweep.folder, TrackingOptions())
    assert len(models(holdings())) == 1


def test_half_a_model_is_made_whole(make_sweep: Callable[..., Any], holdings: Callable[[], Any]) -> None:
    sweep = make_sweep()
    sync_sweep(sweep.folder, TrackingOptions())
    held = holdings()
    (whole,) = models(held)
    key = whole.tags["lorasweep.key"]
    held.client.delete_logged_model(whole.model_id)
    # A kill between creating and finalizing leaves this.
    held.client.create_logged_model(held.experiment.experiment_id, name="half", tags={"lorasweep.key": key})
    assert sync_sweep(sweep.folder, TrackingOptions()).problems == []
    (model,) = models(held)
    assert (str(model.status), model.name) == ("READY", "quickstart-best")


def test_a_run_that_was_made_again_has_its_model(make_sweep: Callable[..., Any], holdings: Callable[[], Any]) -> None:
    sweep = make_sweep()
    sync_sweep(sweep.folder, TrackingOptions())
    for state in sweep.folder.glob("**/mlflow.json"):
        state.unlink()
    assert sync_sweep(sweep.folder, TrackingOptions()).problems == []
    held = holdings()
    (model,) = models(held)
    assert model.source_run_id in {run.info.run_id for run in held.children.values()}
