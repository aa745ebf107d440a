"""One recipe from the command line to the run folder, on the embedded base, with a budget of seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorasweep import config, files, plan
from lorasweep.cli import main
from lorasweep.records import Status

TINY = [
    "train.max_steps=6",
    "train.rungs=2",
    "train.batch_size=2",
    "train.log_every=1",
    "adapter.dim=4",
    "dataset.dollhouse.images=8",
    "sample.steps=2",
    "sample.seeds=[0]",
    "sample.weights=[0.7,1.0]",
    "tracking=none",
]


class Hit(BaseException):
    """What ends a process at a bad moment."""


def cook(folder: Path, words: list[str], *, stop_after: int | None = None, hit: str = "") -> Any:
    """Cook; with `hit`, end at the first event of that kind after the last rung."""
    from lorasweep.kitchen import Kitchen
    from lorasweep.run import cook as run_cook

    recipe = config.compose_recipe(words)
    seen = 0

    def should_stop() -> bool:
        nonlocal seen
        seen += 1
        return seen == stop_after

    planned = plan.make_plan(recipe)

    def report(event: dict[str, Any]) -> bool:
        rungs = [row["step"] for row in files.read_jsonl(folder / "events.jsonl") if row["kind"] == "rung"]
        if event["kind"] == hit and planned.steps in rungs:
            raise Hit(hit)
        return True

    return run_cook(recipe, planned, folder, Kitchen(), report=report, should_stop=should_stop)


def weights_of(folder: Path) -> bytes:
    return (folder / "adapter.safetensors").read_bytes()


def test_train_leaves_a_whole_run_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--json", *TINY]) == 0
    result = json.loads(capsys.readouterr().out)
    folder = Path(result["run_folder"])
    assert result["status"] == "COMPLETED" and folder.is_relative_to(home)
    for name in (
        "recipe.yaml",
        "plan.json",
        "events.jsonl",
        "adapter.safetensors",
        "metrics.json",
        "provenance.json",
        "status.json",
        "samples/index.json",
    ):
        assert (folder / name).exists(), name
    assert 0.0 <= result["metrics"]["overcook/score"] <= 1.0
    assert "overcook/utility" in result["metrics"]

    events = list(files.read_jsonl(folder / "events.jsonl"))
    assert [e["step"] for e in events if e["kind"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert [e["step"] for e in events if e["kind"] == "rung"] == [3, 6]
    images = files.read_json(folder / "samples" / "index.json")["images"]
    assert {image["weight"] for image in images} == {0.7, 1.0}
    for image in images:
        assert (folder / "samples" / image["file"]).exists()
        assert {
            "prompt",
            "negative_prompt",
            "seed",
            "width",
            "height",
            "sampler",
            "steps",
            "guidance",
            "noise",
        } <= set(image)


def test_a_cooked_recipe_is_not_cooked_twice(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--json", *TINY]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["run_folder"])
    before = (folder / "events.jsonl").read_bytes()
    assert main(["train", "--json", *TINY]) == 0
    assert json.loads(capsys.readouterr().out)["run_folder"] == str(folder)
    assert (folder / "events.jsonl").read_bytes() == before


@pytest.mark.parametrize("stop_after", [2, 4])
@pytest.mark.parametrize("optimizer", ["adamw", "prodigy"])
def test_interrupted_and_resumed_equals_uninterrupted(home: Path, optimizer: str, stop_after: int) -> None:
    words = [*TINY, f"optimizer={optimizer}"]
    assert cook(home / "a", words).status is Status.COMPLETED
    stopped = cook(home / "b", words, stop_after=stop_after)
    assert stopped.status is Status.CANCELLED and stopped.step == stop_after
    assert not (home / "b" / "adapter.safetensors").exists()
    assert cook(home / "b", words).status is Status.COMPLETED
    assert weights_of(home / "a") == weights_of(home / "b")
    straight = files.read_json(home / "a" / "metrics.json")
    assert files.read_json(home / "b" / "metrics.json") == straight


def early_calibration(home: Path) -> str:
    """Limits by which everything is learned and nothing is burned, so that the first rung is done."""
    limits = {"gap": {"limit": 1e6, "width": 1e5}}
    files.write_json(home / "early.json", {"name": "e", "holds_for": {}, "limits": limits, "learned": 0.0})
    return f"calibration={home / 'early.json'}"


@pytest.mark.parametrize("adapter", ["lora", "loha"])
def test_a_trial_keeps_the_checkpoint_that_was_done_whatever_hits_it_at_the_end(
    home: Path, adapter: str
) -> None:
    words = [*TINY, f"adapter={adapter}", early_calibration(home)]
    outcome = cook(home / "a", words)
    result = files.read_json(home / "a" / "metrics.json")
    assert (result["step"], result["verdict"]["kept_because"]) == (3, "done")
    assert outcome.step == 6 and outcome.metrics == result["metrics"]
    assert outcome.metrics["overcook/kept_step"] == outcome.metrics["overcook/done_at_step"] == 3
    assert "overcook/utility_se" in outcome.metrics
    checkpoints = home / "a" / "checkpoints"
    assert weights_of(home / "a") == weights_of(checkpoints / "step_000003")
    assert weights_of(home / "a") != weights_of(checkpoints / "step_000006"), "the last one stays as well"
    assert [step["weight"] for step in result["ladder"]] == [0.7, 1.0]
    assert result["ladder"][0]["metrics"].items() <= result["metrics"].items()
    images = files.read_json(home / "a" / "samples" / "index.json")["images"]
    assert {image["weight"] for image in images} == {0.7, 1.0}
    assert all("/step_000003" in f"/{image['file']}" for image in images)

    with pytest.raises(Hit):
        cook(home / "b", words, hit="samples")  # while the kept checkpoint is looked at in full
    with pytest.raises(Hit):
        cook(home / "b", words, hit="end")  # just before anything of it is written
    assert not (home / "b" / "metrics.json").exists()
    cook(home / "b", words)
    assert files.read_json(home / "b" / "metrics.json") == result
    assert weights_of(home / "b") == weights_of(home / "a")

    last = files.read_json(home / "a" / "metrics.json")["rungs"][-1]["metrics"]["overcook/score"]
    cook(home / "c", [*words, "train.keep=last"])
    declared = files.read_json(home / "c" / "metrics.json")
    assert (declared["step"], declared["verdict"]["kept_because"]) == (6, "last")
    assert declared["metrics"]["overcook/score_last"] == last
    assert "kept as declared, at step 6" in declared["verdict"]["sentence"]


def test_the_seed_decides_the_weights_and_nothing_else_does(home: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        cook(home / name, [*TINY, f"seed={seed}"])
    assert weights_of(home / "a") == weights_of(home / "b")
    assert weights_of(home / "a") != weights_of(home / "c")


def test_judging_does_not_change_training(home: Path) -> None:
    cook(home / "often", [*TINY, "train.rungs=3"])
    cook(home / "once", [*TINY, "train.rungs=1"])
    assert weights_of(home / "often") == weights_of(home / "once")


def test_a_recipe_that_diverges_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(
        ["train", "--json", *TINY, "optimizer.lr=1e30", "train.max_grad_norm=0", "scheduler=constant"]
    )
    result = json.loads(capsys.readouterr().out)
    assert code == 1 and result["status"] == "DIVERGED" and "step" in result["reason"]
