"""One recipe from the command line to the run folder: once on the embedded base, then on a tiny random one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_training import FEW_PICTURES

from lorasweep import config, plan
from lorasweep.cli import main
from lorasweep.core import files
from lorasweep.core.provenance import code_digest
from lorasweep.core.records import Status

pytestmark = pytest.mark.usefixtures("quick_trials")
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


@pytest.fixture
def tiny(on_tiny_sd: list[str]) -> list[str]:
    """A recipe on a base that takes no time, judged by two metrics and few pictures."""
    return [*TINY, *on_tiny_sd, *FEW_PICTURES, "metrics=[generalisation,norms]"]


def cook(folder: Path, words: list[str], *, stop_after: int | None = None, resources: Any = None) -> Any:
    from lorasweep.trial.resources import TrialResources
    from lorasweep.trial.run import cook as run_cook

    recipe = config.compose_recipe(words)
    seen = 0

    def should_stop() -> bool:
        nonlocal seen
        seen += 1
        return seen == stop_after

    resources = resources or TrialResources()
    return run_cook(
        recipe, plan.make_plan(recipe), folder, resources, report=lambda event: True, should_stop=should_stop
    )


def weights_of(folder: Path) -> bytes:
    return (folder / "adapter.safetensors").read_bytes()


def test_train_leaves_a_whole_run_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--json", *TINY, FEW_PICTURES[0], "metrics=[identity,generalisation,burn]"]
    assert main(words) == 0
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

    before = (folder / "events.jsonl").read_bytes()
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["run_folder"] == str(folder)
    assert (folder / "events.jsonl").read_bytes() == before, "what is cooked is not cooked twice"


@pytest.mark.parametrize("optimizer", ["adamw", "prodigy"])
def test_interrupted_and_resumed_equals_uninterrupted(home: Path, tiny: list[str], optimizer: str) -> None:
    words = [*tiny, f"optimizer={optimizer}"]
    assert cook(home / "straight", words).status is Status.COMPLETED
    for stop_after in (2, 4):  # before and after the first rung
        folder = home / f"stopped-{stop_after}"
        stopped = cook(folder, words, stop_after=stop_after)
        assert stopped.status is Status.CANCELLED and stopped.step == stop_after
        assert not (folder / "adapter.safetensors").exists()
        if optimizer == "adamw":  # an update in between, which decides no bit here
            place = folder / "provenance.json"
            files.write_json(place, {**files.read_json(place), "code": "of yesterday"})
        assert cook(folder, words).status is Status.COMPLETED
        assert weights_of(folder) == weights_of(home / "straight")
        assert files.read_json(folder / "metrics.json") == files.read_json(home / "straight" / "metrics.json")
        whole = files.read_json(folder / "provenance.json")["code"] == code_digest()
        assert whole is (optimizer != "adamw"), "what two versions made is no result of today's"


def test_judging_does_not_change_training_and_the_seed_does(home: Path, on_tiny_sd: list[str]) -> None:
    words = [*(word for word in TINY if not word.startswith("train.rungs=")), *on_tiny_sd]
    unjudged = [*words, *FEW_PICTURES, "train.rungs=1", "metrics=[]"]
    cook(home / "often", [*words, "train.rungs=2"])  # by all metrics
    cook(home / "once", unjudged)
    assert weights_of(home / "often") == weights_of(home / "once")
    cook(home / "another", [*unjudged, "seed=1"])
    assert weights_of(home / "another") != weights_of(home / "once"), "the seed decides the weights"


def test_what_a_worker_cooked_before_leaves_no_trace(home: Path, tiny: list[str]) -> None:
    from lorasweep.trial.resources import TrialResources

    resources = TrialResources()
    cook(home / "before", [*tiny, "seed=1", "optimizer.lr=1e-2"], resources=resources)
    cook(home / "after", tiny, resources=resources)
    cook(home / "alone", tiny)
    assert weights_of(home / "after") == weights_of(home / "alone")
    after, alone = (files.read_json(home / name / "metrics.json")["metrics"] for name in ("after", "alone"))
    assert after == alone


def test_a_recipe_that_diverges_says_so(home: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["train", "--json", *tiny, "optimizer.lr=1e30", "train.max_grad_norm=0", "scheduler=constant"])
    result = json.loads(capsys.readouterr().out)
    assert code == 1 and result["status"] == "DIVERGED" and "step" in result["reason"]
