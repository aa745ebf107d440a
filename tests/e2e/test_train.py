"""One recipe from the command line to the run folder, on the embedded base, with a budget of seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorasweep import config, plan
from lorasweep.cli import main
from lorasweep.core import files
from lorasweep.core.records import Status

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


def cook(folder: Path, words: list[str], *, stop_after: int | None = None) -> Any:
    from lorasweep.trial.resources import TrialResources
    from lorasweep.trial.run import cook as run_cook

    recipe = config.compose_recipe(words)
    seen = 0

    def should_stop() -> bool:
        nonlocal seen
        seen += 1
        return seen == stop_after

    return run_cook(
        recipe, plan.make_plan(recipe), folder, TrialResources(), report=lambda event: True, should_stop=should_stop
    )


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
    assert {3, 6} <= {e["step"] for e in events if e["kind"] == "system"}, "the machine, at rungs at least"
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


def test_the_seed_decides_the_weights_and_nothing_else_does(home: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        cook(home / name, [*TINY, f"seed={seed}"])
    assert weights_of(home / "a") == weights_of(home / "b")
    assert weights_of(home / "a") != weights_of(home / "c")


def test_judging_does_not_change_training(home: Path) -> None:
    tiny = [word for word in TINY if not word.startswith("train.rungs=")]
    cook(home / "often", [*tiny, "train.rungs=3"])
    cook(home / "once", [*tiny, "train.rungs=1"])
    assert weights_of(home / "often") == weights_of(home / "once")


def test_a_recipe_that_diverges_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["train", "--json", *TINY, "optimizer.lr=1e30", "train.max_grad_norm=0", "scheduler=constant"])
    result = json.loads(capsys.readouterr().out)
    assert code == 1 and result["status"] == "DIVERGED" and "step" in result["reason"]
