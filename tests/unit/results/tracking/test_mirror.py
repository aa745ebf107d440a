"""What MLflow shows of a sweep folder, and that syncing again adds nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lorasweep.cli import main
from lorasweep.core import files
from lorasweep.core.records import TrackingOptions
from lorasweep.results.tracking.content import legible, trial_content
from lorasweep.results.tracking.mirror import SweepMirror, sync_folder, sync_sweep
from lorasweep.results.tracking.push import BATCH
from lorasweep.results.tracking.reading import read_sweep, read_trial

STEPS = 20
RUNGS = [10, 20]
FOUR_RUNGS = [10, 20, 30, 40]
KEYS = [
    "class_0 1girl green hair indoors",
    "in_distribution_0 zkw 1girl red dress beach",
    "in_distribution_1 zkw 1girl red dress forest",
    "recombined_0 zkw 1girl blue coat snow",
    "unrelated_0 a red circle",
]


@pytest.fixture
def sweep(make_sweep: Callable[..., Any], fakes: Any) -> Any:
    """Two arms that differ in optimizer, schedule and buckets."""
    return make_sweep(arms=(fakes.ARMS[0], fakes.ARMS[2]), steps=STEPS)


def test_the_machine_that_a_trial_was_trained_on_is_a_param(sweep: Any) -> None:
    sweep.status(0, "COMPLETED")
    file = sweep.run_folder(0) / "status.json"
    files.write_json(file, {**files.read_json(file), "node": "gpu1", "device": "NVIDIA H200"})
    found = trial_content(read_trial(sweep.run_folder(0)), read_sweep(sweep.folder), []).params
    assert (found["node"], found["gpu"]) == ("gpu1", "NVIDIA H200")


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What was sent to the store: metrics, and the keys of images."""
    from mlflow import MlflowClient

    sent: dict[str, list[Any]] = {"metrics": [], "images": []}
    log_batch, log_image = MlflowClient.log_batch, MlflowClient.log_image

    def batch(self: Any, run_id: str, metrics: Any = (), **rest: Any) -> Any:
        sent["metrics"].extend(metrics)
        return log_batch(self, run_id, metrics=metrics, **rest)

    def image(self: Any, run_id: str, picture: Any, **rest: Any) -> Any:
        sent["images"].append(rest["key"])
        return log_image(self, run_id, picture, **rest)

    monkeypatch.setattr(MlflowClient, "log_batch", batch)
    monkeypatch.setattr(MlflowClient, "log_image", image)
    return sent


def sync(sweep: Any) -> Any:
    return sync_sweep(sweep.folder, TrackingOptions())


def test_a_finished_sweep(sweep: Any, holdings: Callable[[], Any]) -> None:
    for device, run in zip(("L4", "A100"), sorted(sweep.folder.glob("0*")), strict=False):
        files.write_json(run / "status.json", {**files.read_json(run / "status.json"), "device": device})
    report = sync(sweep)
    assert (report.runs, report.created, report.problems) == (3, 3, [])
    held = holdings()
    assert len(held.runs) == 3

    parent = held.parent
    assert (parent.info.run_name, parent.info.status) == ("quickstart", "FINISHED")
    assert parent.data.tags["lorasweep.best"] == "prodigy_four_buckets"
    note = parent.data.tags["mlflow.note.content"]
    assert sweep.question in note and "lorasweep sweep quickstart" in note
    assert note.index("prodigy_four_buckets") < note.index("adamw_one_bucket"), "best first"
    assert "Trials were trained on A100 and L4" in note
    assert "`recombined_0`: zkw, 1girl, blue coat, snow" in note, "what the keys of the image grid mean"
    assert held.history(parent, "by_trial/overcook/utility") == [(0, 0.55), (1, 0.68)]
    assert {"sweep.yaml", "leaderboard.json", "contact_sheet.png"} <= set(held.artifacts(parent))
    assert held.pictures(parent) == [("contact_sheet", 2)]

    child = held.children["0001-prodigy_four_buckets-s0"]
    assert (child.info.run_name, child.info.status) == ("prodigy_four_buckets", "FINISHED")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    wanted = {"sweep": "quickstart", "arm": "prodigy_four_buckets", "status": "COMPLETED", "verdict": "done",
              "rank": "1", "retry": "0", "fingerprint": f"{1:064x}"}  # fmt: skip
    assert {name: child.data.tags.get(f"lorasweep.{name}") for name in wanted} == wanted
    apart = "`optimizer=prodigy scheduler=annealed_cosine_warmup_restarts buckets=four`"
    assert apart in child.data.tags["mlflow.note.content"]
    assert "`prompt_control/score`: no reader" in child.data.tags["mlflow.note.content"]
    assert child.data.tags["mlflow.source.git.commit"] == "c0ffee" * 6
    assert child.info.end_time - child.info.start_time == STEPS / 2 * 1000  # ms, as the status file says


def test_params_are_the_headline_and_what_differs(sweep: Any, holdings: Callable[[], Any]) -> None:
    sync(sweep)
    assert holdings().children["0000-adamw_one_bucket-s0"].data.params == {
        "seed": "0", "steps": "20", "adapter.name": "lora", "adapter.dim": "16", "buckets": "single",
        "optimizer.name": "adamw", "optimizer.lr": "0.001", "optimizer.text_encoder_lr": "0.0001",
        "scheduler.name": "cosine_with_restarts",
    }  # fmt: skip


def test_metrics_over_steps(sweep: Any, holdings: Callable[[], Any]) -> None:
    sync(sweep)
    held = holdings()
    child = held.children["0000-adamw_one_bucket-s0"]
    losses = {step: sweep.train_metrics(0, step)["train/loss"] for step in RUNGS}
    assert dict(held.history(child, "train/loss")) == pytest.approx(losses, rel=1e-5)
    utilities = {step: sweep.rung_metrics(sweep.arms[0], step)["overcook/utility"] for step in RUNGS}
    assert dict(held.history(child, "rung/overcook/utility")) == pytest.approx(utilities, abs=1e-4)
    assert held.history(child, "rung/exposures_per_image") == [(step, step / 4) for step in RUNGS]
    assert held.history(child, "rung/identity/score") == [], "measured only at the end"
    assert held.history(child, "identity/score") == [(0, 0.55)]


def test_what_a_trial_took_of_the_machine_is_a_system_metric(sweep: Any, holdings: Callable[[], Any]) -> None:
    row = {"kind": "system", "time": 1_795_000_005.0, "step": 10, "metrics": {"memory_megabytes": 812.5}}
    files.append_jsonl(sweep.run_folder(0) / "events.jsonl", row)
    for _ in range(2):
        sync(sweep)
    held = holdings()
    child = held.children["0000-adamw_one_bucket-s0"]
    assert held.history(child, "system/memory_megabytes") == [(10, 812.5)]


def test_a_trials_numbers_are_those_of_the_checkpoint_it_kept(sweep: Any, holdings: Callable[[], Any]) -> None:
    path = sweep.run_folder(0) / "metrics.json"
    result = json.loads(path.read_text())
    result["metrics"] |= {"overcook/utility": 0.875, "overcook/kept_step": 10.0}
    path.write_text(json.dumps(result))
    for attempt in range(2):
        sync(sweep)
        held = holdings()
        child = held.children["0000-adamw_one_bucket-s0"]
        assert child.data.metrics["overcook/utility"] == 0.875, f"attempt {attempt}"
        assert held.history(child, "overcook/kept_step") == [(0, 10.0)], "step 0: bars, not lines"
        assert held.history(child, "overcook/utility") == [(0, 0.875)]
        curve = held.history(child, "rung/overcook/utility")
        assert [step for step, _ in curve] == RUNGS, "and no jump at its end"
        assert 0.875 not in {value for _, value in curve}
        told = [name for name in child.data.metrics if not name.startswith(("rung/", "train/", "system/"))]
        assert told[:2] == ["overcook/utility", "overcook/score"], "which Compare draws first"


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("overcook/score", 9.15234243947e-07, 0.0),
        ("rung/overcook/utility", 0.50297687591, 0.503),
        ("overcook/done_at_exposures", 19.53125, 19.5312),
        ("train/lr/unet", 0.000123456789, 0.000123457),
        ("train/d", 1.1203690425116691e-06, 1.12037e-06),
        ("norms/stable_rank", 2791789.0, 2791789.0),
        ("overcook/kept_step", 1_600_000, 1_600_000.0),
    ],
)
def test_numbers_are_short_enough_for_a_column(key: str, value: float, shown: float) -> None:
    assert legible(key, value) == shown


def test_pictures_line_up_by_prompt_and_step(sweep: Any, holdings: Callable[[], Any]) -> None:
    sync(sweep)
    held = holdings()
    wanted = sorted((key, step) for key in KEYS for step in RUNGS)
    for child in held.children.values():
        assert held.pictures(child) == wanted, "one picture per prompt and rung: weight 0.7, first seed"
        ladder = held.artifacts(child, "samples/step_000020")
        assert "class_00_seed0_w1.png" in ladder and "index.json" in ladder
        assert "class_00_seed0_w0.7.png" not in ladder, "it is in the grid"
        assert {"recipe.yaml", "plan.json", "metrics.json", "provenance.json", "adapter.safetensors"} <= set(
            held.artifacts(child)
        )


@pytest.mark.parametrize("since", ["an old version", "an arm with other captions"])
def test_pictures_line_up_with_those_of_earlier_syncs(sweep: Any, since: str, holdings: Callable[[], Any]) -> None:
    """Keys had no prompts once, and have none where arms differ in them: the grid has a row per key."""
    manifest, wanted = sweep.folder / "sweep.yaml", KEYS
    declared = yaml.safe_load(manifest.read_text())
    declared["arms"][0]["recipe"]["captions"]["trigger"] = "another"
    without = [key.partition(" ")[0] for key in KEYS]
    if since == "an old version":
        whole = manifest.read_text()
        files.write_text(manifest, yaml.safe_dump(declared))
        sync(sweep)
        files.write_text(manifest, whole)
        for state in sweep.folder.rglob("mlflow.json"):
            data = files.read_json(state)
            del data["mirrored"]["picture_keys"]
            files.write_json(state, data)
    else:
        sync(sweep)
        files.write_text(manifest, yaml.safe_dump(declared))
        wanted = without
    assert sync(sweep).problems == []
    held = holdings()
    assert len(held.children) == 2
    for child in held.children.values():
        assert held.pictures(child) == sorted((key, step) for key in wanted for step in RUNGS)
    assert sync(sweep).updated == 0


def test_an_index_may_only_name_its_neighbours(sweep: Any, holdings: Callable[[], Any], tmp_path: Path) -> None:
    """Somebody else's outputs must not have files of ours copied into the mirror."""
    (tmp_path / "private.png").write_bytes(b"mine")
    index = sweep.run_folder(0) / "samples/step_000020/index.json"
    read = files.read_json(index)
    first = read["images"][0]
    read["images"] += [{**first, "seed": 9, "file": str(tmp_path / "private.png")}]
    files.write_json(index, read)

    assert sync(sweep).problems == []

    child = holdings().children["0000-adamw_one_bucket-s0"]
    assert not [path for path in holdings().artifacts(child, "samples/step_000020") if "private" in path]


def test_datasets_are_named_and_digested(sweep: Any, holdings: Callable[[], Any]) -> None:
    sync(sweep)
    sync(sweep)
    shown = holdings()
    held = [child.inputs.dataset_inputs for child in shown.children.values()]
    of_all = {entry.dataset.digest for entry in shown.parent.inputs.dataset_inputs}
    assert of_all == {entry.dataset.digest for entry in held[0]}, "all trials share them"
    assert [len(inputs) for inputs in held] == [2, 2], "what was trained on and what judged, each once"
    datasets = {
        (entry.dataset.name, entry.dataset.digest, tag.value)
        for inputs in held
        for entry in inputs
        for tag in entry.tags
    }
    assert len(datasets) == 2, "both trials saw the same images"
    assert {name for name, _, _ in datasets} == {"dollhouse zkw"}
    assert {use for _, _, use in datasets} == {"training", "held_out"}
    assert {len(digest) for _, digest, _ in datasets} == {8}
    assert len({digest for _, digest, _ in datasets}) == 2, "they are other images"


def test_statuses(make_sweep: Callable[..., Any], fakes: Any, holdings: Callable[[], Any]) -> None:
    endings = {
        "COMPLETED": "FINISHED", "PRUNED": "KILLED", "CANCELLED": "KILLED", "DIVERGED": "FAILED",
        "OUT_OF_MEMORY": "FAILED", "CRASHED": "FAILED", "INVALID": "FAILED", "RUNNING": "RUNNING",
        "WAITING": "SCHEDULED",
    }  # fmt: skip
    arms = tuple(fakes.FakeArm(name.lower(), "", (), 0.5, 0.1) for name in (*endings, "untouched"))
    sweep = make_sweep(cooked=False, arms=arms, steps=STEPS)
    for number, status in enumerate(endings):
        sweep.cook(number, 10)
        sweep.end(number, status, step=10, reason="because")
    sweep.status(len(endings), "WAITING")
    assert sync(sweep).problems == []
    held = holdings()
    found = {run.data.tags["lorasweep.status"]: run.info.status for run in held.children.values()}
    assert found == endings, "and a trial that never started has no run yet"
    assert held.parent.info.status == "RUNNING"


def test_syncing_twice_adds_nothing(sweep: Any, holdings: Callable[[], Any]) -> None:
    sync(sweep)
    before = _inventory(holdings())
    report = sync(sweep)
    assert (report.runs, report.created, report.updated, report.problems) == (3, 0, 0, [])
    assert _inventory(holdings()) == before


def test_without_the_states_the_runs_are_made_again(sweep: Any, holdings: Callable[[], Any]) -> None:
    """`mlflow.json` is a memory, not the truth: a run that nobody remembers is replaced, and nothing is doubled."""
    sync(sweep)
    before = _inventory(holdings())
    states = list(sweep.folder.glob("**/mlflow.json"))
    assert len(states) == 3
    for state in states:
        state.unlink()
    report = sync(sweep)
    assert (report.created, report.problems) == (3, [])
    held = holdings()
    assert _inventory(held) == before
    assert {run.data.tags["mlflow.parentRunId"] for run in held.children.values()} == {held.parent.info.run_id}


def test_a_store_that_vanishes_under_a_mirror_is_noticed(sweep: Any, home: Path) -> None:
    """SQLite would go on writing into the deleted file, and all would seem well."""
    mirror = SweepMirror(sweep.folder, TrackingOptions())
    mirror.sync()
    shutil.move(home / "mlruns", home / "lost")
    (problem,) = mirror.sync().problems
    assert "removed or replaced" in problem


def test_marks_of_another_store_do_not_count(
    sweep: Any, home: Path, empty_database: Path, holdings: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that was lost is rebuilt from the folders, whatever `mlflow.json` remembers."""
    sync(sweep)
    before = _inventory(holdings())
    shutil.copy(empty_database, home / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'other.db'}")
    assert sync(sweep).created == 3
    assert _inventory(holdings()) == before


def test_growth_sends_only_what_is_new(
    make_sweep: Callable[..., Any], holdings: Callable[[], Any], spy: dict[str, list[Any]]
) -> None:
    sweep = make_sweep(cooked=False, steps=40, rung_count=4)
    mirror = SweepMirror(sweep.folder, TrackingOptions())
    sweep.cook(0, 20)
    mirror.sync()
    held = holdings()
    assert [step for step, _ in held.history(held.children["0000-adamw_one_bucket-s0"], "train/loss")] == [
        10,
        20,
    ]

    sent = spy["metrics"]
    sent.clear()
    sweep.cook(0, 30, from_step=20)
    assert mirror.sync().updated == 1
    assert {metric.step for metric in sent} == {30}
    sent.clear()
    # Another process goes on from the mark.
    sweep.cook(0, 40, from_step=30)
    sync(sweep)
    assert {metric.step for metric in sent} == {40}
    held = holdings()
    child = held.children["0000-adamw_one_bucket-s0"]
    assert [step for step, _ in held.history(child, "train/loss")] == FOUR_RUNGS
    assert held.pictures(child) == sorted((key, step) for key in KEYS for step in FOUR_RUNGS)


@pytest.mark.parametrize("rung_count", [4, 2])  # 30 was judged, or logged only
def test_a_resumed_trial_that_repeats_steps(
    make_sweep: Callable[..., Any], fakes: Any, holdings: Callable[[], Any], rung_count: int
) -> None:
    """After a crash at step 30 the log is cut back to the checkpoint at 20, and 30 happens again, later."""
    from lorasweep.core import files

    sweep = make_sweep(cooked=False, steps=40, rung_count=rung_count)
    mirror = SweepMirror(sweep.folder, TrackingOptions())
    sweep.cook(0, 30)
    mirror.sync()
    log = sweep.run_folder(0) / "events.jsonl"
    kept = [row for row in files.read_jsonl(log) if row["step"] <= 20]
    files.write_text(log, "".join(json.dumps(row) + "\n" for row in kept))
    mirror.sync()
    sweep.late_s = 60
    sweep.cook(0, 40, from_step=20)
    sweep.end(0)
    sweep.status(0, "COMPLETED", step=40, attempt=2)
    mirror.sync()
    held = holdings()
    child = held.children["0000-adamw_one_bucket-s0"]
    assert [step for step, _ in held.history(child, "train/loss")] == FOUR_RUNGS
    assert [step for step, _ in held.history(child, "rung/overcook/utility")] == sweep.rungs
    assert held.pictures(child) == sorted((key, step) for key in KEYS for step in sweep.rungs)
    assert child.data.tags["lorasweep.retry"] == "1"
    assert child.info.status == "FINISHED"


def test_steps_told_again_after_a_mirror_died_before_it_noted_them_are_shown_once(
    make_sweep: Callable[..., Any], holdings: Callable[[], Any]
) -> None:
    from lorasweep.core import files

    sweep = make_sweep(cooked=False, steps=40, rung_count=2)
    sweep.cook(0, 20)
    sync(sweep)
    mark = sweep.run_folder(0) / "mlflow.json"
    noted = mark.read_bytes()
    sweep.cook(0, 30, from_step=20)
    sync(sweep)
    mark.write_bytes(noted)
    log = sweep.run_folder(0) / "events.jsonl"
    files.write_jsonl(log, [row for row in files.read_jsonl(log) if row["step"] <= 20])
    sweep.late_s = 60
    sweep.cook(0, 40, from_step=20)
    sync(sweep)
    held = holdings()
    child = held.children["0000-adamw_one_bucket-s0"]
    assert [step for step, _ in held.history(child, "train/loss")] == FOUR_RUNGS


def test_a_trial_that_cannot_be_mirrored_is_named_and_the_others_are(sweep: Any, holdings: Callable[[], Any]) -> None:
    (sweep.run_folder(0) / "samples/step_000010/index.json").write_text("{}")
    report = sync(sweep)
    (problem,) = report.problems
    assert "0000-adamw_one_bucket-s0" in problem
    assert "0001-prodigy_four_buckets-s0" in holdings().children


def test_a_run_that_contradicts_its_folder_is_made_again(sweep: Any, holdings: Callable[[], Any]) -> None:
    """MLflow cannot change a param: the folder is the truth."""
    sync(sweep)
    recipe = sweep.run_folder(0) / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("lr: 0.001", "lr: 0.002"))
    report = sync(sweep)
    assert (report.created, report.problems) == (1, [])
    assert holdings().children["0000-adamw_one_bucket-s0"].data.params["optimizer.lr"] == "0.002"


@pytest.mark.parametrize("send", ["log_batch", "log_artifact", "log_inputs"])
def test_what_fails_is_sent_again_to_the_same_run(
    send: str, sweep: Any, holdings: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that takes no files, say, would otherwise collect deleted runs."""
    from mlflow import MlflowClient

    original, calls = getattr(MlflowClient, send), iter(range(1000))

    def breaks(self: Any, *words: Any, **options: Any) -> Any:
        found = original(self, *words, **options)
        if next(calls) % 2:
            raise OSError("broken off after all had arrived")
        return found

    mirror = SweepMirror(sweep.folder, TrackingOptions())
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, send, breaks)
        assert mirror.sync().problems
    before = {run.info.run_id for run in holdings().runs}
    assert mirror.sync().problems == []
    held = holdings()
    assert before <= {run.info.run_id for run in held.runs} and len(held.runs) == 3
    for child in held.children.values():
        assert [step for step, _ in held.history(child, "train/loss")] == RUNGS
        assert len(child.inputs.dataset_inputs) == 2


def test_a_folder_made_anew_gets_runs_of_its_own(
    sweep: Any, make_sweep: Callable[..., Any], holdings: Callable[[], Any]
) -> None:
    """A person who deletes a sweep and cooks it again sees both in MLflow; the old one is history."""
    sync(sweep)
    shutil.rmtree(sweep.folder)
    make_sweep(arms=sweep.arms, steps=STEPS)
    assert sync(sweep).created == 3
    assert len(holdings().runs) == 6


def test_single_runs_are_mirrored_as_a_sweep_named_train(
    store_home: Path, fakes: Any, holdings: Callable[[], Any]
) -> None:
    train = fakes.FakeSweep(store_home / "outputs" / "train", steps=STEPS)  # no sweep.yaml
    train.complete(0)
    assert not sync_folder(store_home / "outputs" / "train").problems
    held = holdings()
    assert held.parent.info.status == "FINISHED"
    (child,) = held.children.values()
    assert child.data.params["optimizer.name"] == "adamw"
    assert child.info.run_name == "0000-adamw_one_bucket-s0", "an arm named `train` would say nothing"
    assert {key for key, _ in held.pictures(child)} == {key.partition(" ")[0] for key in KEYS}, "of any dataset"


@pytest.mark.parametrize("same_process", [True, False])
def test_a_run_that_died_among_its_pictures_is_made_again(
    sweep: Any, same_process: bool, holdings: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between a picture and its thumbnail leaves one file of the two."""
    from mlflow import MlflowClient

    log_image = MlflowClient.log_image
    calls = iter(range(1000))

    def dies(self: Any, run_id: str, image: Any, **options: Any) -> None:
        log_image(self, run_id, image, **options)
        if next(calls) == 6:
            (thumbnail,) = [
                path for path in (sweep.folder.parents[1] / "mlruns").rglob("*.webp")
                if path.name.startswith(f"{options['key']}+step+{options['step']}+")
            ]  # fmt: skip
            thumbnail.unlink()
            raise OSError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_image", dies)
        mirror = SweepMirror(sweep.folder, TrackingOptions())
        assert mirror.sync().problems
    again = mirror if same_process else SweepMirror(sweep.folder, TrackingOptions())
    assert again.sync().problems == []
    held = holdings()
    for child in held.children.values():
        assert held.pictures(child) == sorted((key, step) for key in KEYS for step in RUNGS)
        assert len(held.artifacts(child, "images")) == 2 * len(KEYS) * len(RUNGS)


@pytest.mark.parametrize("step", ["sweep_view", "push_view"])
def test_a_view_that_cannot_be_saved_keeps_nothing_else_back(
    step: str, sweep: Any, holdings: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("another UI")

    monkeypatch.setattr(f"lorasweep.results.tracking.mirror.{step}", fails)
    (problem,) = sync(sweep).problems
    assert "the saved view" in problem
    held = holdings()
    assert held.parent.info.status == "FINISHED" and len(held.children) == 2
    assert len(held.client.search_logged_models([held.experiment.experiment_id])) == 1


def test_keys_of_two_sweeps_do_not_meet(
    make_sweep: Callable[..., Any], fakes: Any, holdings: Callable[[], Any]
) -> None:
    for name in ("first", "second"):
        assert sync(make_sweep(name, arms=fakes.ARMS[:1])).created == 2
    assert len(holdings().runs) == 4


def test_many_points_go_in_batches(
    make_sweep: Callable[..., Any], holdings: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BATCH, "metrics", 4)
    sweep = make_sweep(cooked=False, steps=STEPS)
    sweep.cook(0, STEPS)
    assert sync(sweep).problems == []
    held = holdings()
    assert len(held.history(held.children["0000-adamw_one_bucket-s0"], "train/loss")) == len(RUNGS)


def test_a_foreign_state_is_not_trusted(sweep: Any, holdings: Callable[[], Any]) -> None:
    """A run folder copied from elsewhere brings a mark for a run that is not its own."""
    sync(sweep)
    parent_mark = (sweep.folder / "mlflow.json").read_text()
    (sweep.run_folder(0) / "mlflow.json").write_text(parent_mark)
    assert sync(sweep).problems == []
    held = holdings()
    assert "mlflow.parentRunId" not in held.parent.data.tags
    assert len(held.runs) == 3


def _inventory(held: Any) -> dict[str, Any]:
    """Everything that a second sync could double."""
    return {
        run.data.tags["lorasweep.key"]: (
            run.info.status,
            dict(run.data.params),
            {key: held.history(run, key) for key in sorted(run.data.metrics)},
            held.pictures(run),
            held.artifacts(run),
        )
        for run in held.runs
    }


def test_a_renamed_run_folder_is_mirrored_whatever_its_name(
    make_sweep: Callable[..., Any], holdings: Callable[[], Any]
) -> None:
    sweep = make_sweep()
    (sweep.folder / "sweep.yaml").unlink()  # as folders of single runs, which people name as they like
    names = ["joe's", 'say "x"\'', "ends in \\"]
    for run, name in zip(sorted(sweep.folder.glob("0*")), names, strict=False):
        run.rename(run.with_name(name))
    for _ in range(2):
        assert sync_folder(sweep.folder).problems == []
    assert set(names) <= holdings().children.keys()


def test_a_copy_beside_its_sweep_has_runs_of_its_own_and_a_renamed_one_keeps_them(
    make_sweep: Callable[..., Any], holdings: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def runs() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for run in holdings().runs:
            found.setdefault(run.data.tags["lorasweep.sweep"], []).append(run.info.run_id)
        return found

    first = make_sweep("first").folder
    assert main(["sync"]) == 0
    (mirrored,) = runs().values()
    shutil.copytree(first, first.with_name("copy"))
    assert main(["sync", "copy"]) == 0 and main(["sync"]) == 0
    assert sorted(runs()["first"]) == sorted(mirrored) and len(runs()["copy"]) == len(mirrored)

    first.rename(first.with_name("renamed"))
    assert main(["sync"]) == 0 and sorted(runs()["renamed"]) == sorted(mirrored)
    damaged = shutil.copytree(first.with_name("renamed"), first.with_name(os.fsdecode(b"\xff")))
    assert main(["sync", damaged.name]) == 1 and sorted(runs()["renamed"]) == sorted(mirrored)
    assert "the sweep's own run could not be mirrored" in capsys.readouterr().out, "MLflow takes no such name"
    (first.with_name("copy") / ".mirror_id").write_bytes(b"\xff" * 9)
    assert main(["sync", "copy"]) == 0


@pytest.mark.skipif(os.name == "nt", reason="links are for administrators")
def test_a_link_to_a_sweep_is_no_copy_of_it(make_sweep: Callable[..., Any], holdings: Callable[[], Any]) -> None:
    folder = make_sweep("first").folder
    assert main(["sync"]) == 0
    mirrored = {run.info.run_id for run in holdings().runs}
    folder.with_name("latest").symlink_to(folder, target_is_directory=True)
    for name in ("latest", "first", "latest"):
        assert main(["sync", name]) == 0
    assert {run.info.run_id for run in holdings().runs} == mirrored
    folder.with_name("latest").unlink()
    folder.with_name("latest").write_text("no folder")
    assert main(["sync", "first"]) == 0


def test_a_renamed_sweep_has_its_model(make_sweep: Callable[..., Any]) -> None:
    assert sync_folder(make_sweep('joe\'s 50% "x" a:b.c').folder).problems == []


def test_tags_of_people_are_params_under_names_that_mlflow_takes(sweep: Any, holdings: Callable[[], Any]) -> None:
    manifest = yaml.safe_load((sweep.folder / "sweep.yaml").read_text())
    for number, arm in enumerate(manifest["arms"]):
        recipe = yaml.safe_load((sweep.run_folder(number) / "recipe.yaml").read_text())
        for each in (recipe, arm["recipe"]):
            each.setdefault("captions", {}).setdefault("clean", {})["replacements"] = {"saber (fate)": f"a{number}"}
        (sweep.run_folder(number) / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (sweep.folder / "sweep.yaml").write_text(yaml.safe_dump(manifest))
    assert sync(sweep).problems == []
    params = holdings().children["0000-adamw_one_bucket-s0"].data.params
    assert params["captions.clean.replacements.saber _fate_"] == "a0"


@pytest.mark.parametrize(
    ("tracking", "told"),
    [({"experiment": "lorasweep", "of_a_later_version": 1}, []), ({"experiment": 5}, ["do not say where"])],
)
def test_tracking_options_of_other_versions(sweep: Any, tracking: dict[str, Any], told: list[str]) -> None:
    for number in range(len(sweep.trials)):
        file = sweep.run_folder(number) / "recipe.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"tracking": tracking}))
    problems = sync_folder(sweep.folder).problems
    assert len(problems) == len(told) and all(words in problems[0] for words in told)


def test_a_status_of_another_version_keeps_no_other_trial_out(sweep: Any, holdings: Callable[[], Any]) -> None:
    file = sweep.run_folder(0) / "status.json"
    files.write_json(file, files.read_json(file) | {"status": "PAUSED"})
    assert sync(sweep).problems == []
    assert holdings().children.keys() == {path.name for path in read_sweep(sweep.folder).trials}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plan.json", '{"steps": 20, "ima'),
        ("plan.json", '{"images": [{"split": "train"}], "prompts": {}}'),
        ("plan.json", '{"images": ["0001.png"]}'),
        ("plan.json", '{"prompts": {"class": "1girl"}}'),
        ("samples/step_000010/index.json", '{"images": [{"file": "a'),
        ("recipe.yaml", "dataset: my/images\n"),
        ("recipe.yaml", "dataset: {path: 7, dollhouse: zkw}\n"),
    ],
)
def test_a_trial_that_was_changed_by_hand_keeps_no_other_out(
    sweep: Any, holdings: Callable[[], Any], name: str, content: str
) -> None:
    (sweep.run_folder(0) / name).write_text(content)
    problems = sync(sweep).problems
    held = holdings()
    assert held.children.keys() == {path.name for path in read_sweep(sweep.folder).trials}
    assert (held.parent.info.status, held.parent.data.tags["lorasweep.best"]) == ("FINISHED", "prodigy_four_buckets")
    if name != "recipe.yaml":
        (problem,) = problems
        assert problem.startswith(f"{sweep.run_folder(0).name}: {name} was cut or changed by hand: ")


@pytest.mark.parametrize(
    "content",
    [
        '{"trials": [',
        '{"trials": ["first"]}',
        '{"trials": [{"number": 0, "rank": "best"}]}',
        '{"trials": [], "noise": 3}',
    ],
)
def test_a_leaderboard_that_was_changed_by_hand_keeps_no_trial_out(
    sweep: Any, holdings: Callable[[], Any], capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (sweep.folder / "leaderboard.json").write_text(content)
    assert main(["sync", sweep.folder.name]) == 1
    told = capsys.readouterr()
    assert "leaderboard.json was cut or changed by hand: ranks and the best adapter are left out" in told.out
    assert "Traceback" not in told.err
    assert holdings().children.keys() == {path.name for path in read_sweep(sweep.folder).trials}


def test_a_sweep_whose_declaration_was_cut_stays_as_it_was_mirrored(
    sweep: Any, holdings: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sync(sweep)
    before = holdings().parent.data.tags
    declared = sweep.folder / "sweep.yaml"
    declared.write_bytes(declared.read_bytes()[:100])
    assert main(["sync", sweep.folder.name]) == 1
    assert f"{declared} is not a sweep's manifest" in capsys.readouterr().out
    assert holdings().parent.data.tags == before


def test_a_folder_that_cannot_be_written_is_told_in_words(sweep: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lock = sweep.folder / ".mirror.lock"
    lock.mkdir()  # as where all is read-only, which does not stop who is root
    assert main(["sync", sweep.folder.name]) == 1
    told = capsys.readouterr().out
    assert f"{lock} cannot be written: " in told and "Errno" not in told


def test_a_trial_that_was_judged_anew_shows_what_it_says_now(sweep: Any, holdings: Callable[[], Any]) -> None:
    sync(sweep)
    folder = sweep.run_folder(0)
    result = files.read_json(folder / "metrics.json")
    result["metrics"]["overcook/utility"] = 0.1234
    files.write_json(folder / "metrics.json", result)
    rows = [
        {**row, "metrics": {**row["metrics"], "overcook/score": 0.4321}} if row["kind"] == "rung" else row
        for row in files.read_jsonl(folder / "events.jsonl")
    ]
    files.write_jsonl(folder / "events.jsonl", rows)
    assert sync(sweep).problems == []
    held = holdings()
    assert len(held.runs) == len(sweep.trials) + 1
    child = held.children[folder.name]
    assert child.data.metrics["overcook/utility"] == 0.1234
    assert held.history(child, "rung/overcook/score") == [(step, 0.4321) for step in RUNGS]
    assert (0, 0.1234) in held.history(held.parent, "by_trial/overcook/utility")
    assert sync(sweep).updated == 0
