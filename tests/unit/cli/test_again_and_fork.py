"""The same again, and a variation: real runs on a tiny random base, with a budget of seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_training import FEW_PICTURES

from lorasweep import api, config
from lorasweep.cli import main
from lorasweep.core import files
from lorasweep.core.errors import InputError
from lorasweep.core.records import to_dict
from lorasweep.plan import make_plan

TINY = [
    "train.max_steps=4",
    "train.rungs=1",
    "train.batch_size=2",
    "adapter.dim=4",
    "dataset.dollhouse.images=8",
    "sample.steps=2",
    "sample.seeds=[0]",
    "sample.weights=[0.7]",
    "metrics=[burn]",
    "tracking=none",
    *FEW_PICTURES,
]


pytestmark = pytest.mark.usefixtures("training_workers")


@pytest.fixture(scope="session")
def tiny(on_tiny_sd: list[str]) -> list[str]:
    return [*TINY, *on_tiny_sd]


def written(words: list[str]) -> str:
    """The same in a sweep's file."""
    return "".join(f"    {word.replace('=', ': ', 1)}\n" for word in words if "tracking" not in word)


def run(words: list[str], capsys: pytest.CaptureFixture[str], *, code: int = 0) -> dict[str, Any]:
    assert main([*words, "--json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_again_comes_out_the_same_and_a_fork_differs_where_asked(
    home: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(["train", *tiny], capsys)
    name = f"train/{Path(first['run_folder']).name}"

    again = run(["train", "--from", name, "tracking=none"], capsys)
    assert again["same"] and again["run_folder"] != first["run_folder"]
    assert again["compared_with"] == first["run_folder"]

    forked = run(["fork", name, "adapter.dim=8", "tracking=none"], capsys)
    assert forked["parent"] == name and forked["overrides"] == ["adapter.dim=8", "tracking=none"]
    recipe = (Path(forked["run_folder"]) / "recipe.yaml").read_text()
    assert "dim: 8" in recipe and "max_steps: 4" in recipe
    assert files.read_json(Path(forked["run_folder"]) / "parent.json")["parent"] == name

    # The same from Python.
    assert api.open_run(forked["run_folder"]).parent["overrides"] == forked["overrides"]
    heard: list[str] = []
    ended = api.fork(name, "adapter.dim=8", "tracking=none", warn=heard.append, quiet=True)
    assert str(ended.folder) == forked["run_folder"] and not ended.ended.cooked
    assert heard == list(api.plan(ended.recipe).warnings) != []
    with pytest.raises(InputError, match="must change something"):
        api.fork(name)
    with pytest.raises(InputError, match="would make it another recipe"):
        api.train_again(name, "adapter.dim=8")
    assert api.unkept(ended, ["burn/score<1e9"]) == []
    (broken,) = api.unkept(ended, ["burn/score>1e9"])
    assert "burn/score >= 1e+09, got" in broken

    # A sweep does not cook what `train` has cooked, nor `train` what a sweep has.
    file = tmp_path / "two.yaml"
    file.write_text(
        "sweep:\n  question: Again?\n  metric: {name: burn/score, goal: minimize}\n"
        f"  recipe:\n{written(tiny)}  arms: {{only: {{}}}}\n"
    )
    (trial,) = run(["sweep", str(file), "tracking=none", "launcher.workers=1"], capsys)["trials"]
    assert trial["reused_from"] == name or trial["reused_from"].startswith("train/again")

    # Whoever tampers with a run is found out.
    spoiled = Path(again["run_folder"]) / "adapter.safetensors"
    spoiled.write_bytes((Path(forked["run_folder"]) / "adapter.safetensors").read_bytes())
    assert not run(["train", "--from", name, "tracking=none"], capsys, code=1)["same"]


def test_a_trial_of_a_sweep_by_its_number_is_cooked_again_without_a_warning(
    home: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(
        "sweep:\n  question: Again?\n  metric: {name: burn/score, goal: minimize}\n  seeds: [0, 1]\n"
        f"  recipe:\n{written(tiny)}  arms: {{only: {{}}}}\n"
    )
    assert main(["sweep", str(file), "tracking=none", "launcher.workers=1"]) == 0
    capsys.readouterr()

    reused = run(["train", *tiny, "seed=1"], capsys)
    assert reused["status"] == "COMPLETED" and reused["reused_from"] == "one/0001-only-s1"
    assert main(["train", "--from", "one/1", "tracking=none", "--json"]) == 0

    told = capsys.readouterr()
    assert json.loads(told.out)["compared_with"].endswith("one/0001-only-s1")
    assert "changed since" not in told.err
    plan = home / "outputs" / "one" / "0001-only-s1" / "plan.json"
    anew = make_plan(config.read_recorded(plan.with_name("recipe.yaml")))
    assert files.read_json(plan) == to_dict(anew), "a trial has the plan of its own seed"
    files.write_json(plan, files.read_json(plan) | {"material": "other images"})
    assert main(["train", "--from", "one/1", "tracking=none"]) == 0
    assert "have changed since" in capsys.readouterr().err


def test_again_finds_images_that_were_moved_and_takes_no_others(
    home: Path, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dollhouse", "dataset", "--out", str(home / "old"), "--images", "6"]) == 0
    capsys.readouterr()
    words = [word for word in tiny if not word.startswith("dataset.")]
    first = run(["train", *words, f"dataset.path={home / 'old'}"], capsys)
    name = f"train/{Path(first['run_folder']).name}"
    (home / "old").rename(home / "new")
    assert main(["train", "--from", name, "tracking=none"]) == 2
    capsys.readouterr()

    moved = ["train", "--from", name, "tracking=none", f"dataset.path={home / 'new'}"]
    again = run(moved, capsys)
    assert again["same"] and again["compared_with"] == first["run_folder"]

    image = min((home / "new").rglob("*.png"))
    runs = sorted((home / "outputs" / "train").iterdir())
    image.with_suffix(".txt").write_text("zkw, another caption", encoding="utf-8")
    assert main(moved) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "cannot come out the same: what is there is not what" in told and f"lorasweep fork {name} dataset" in told
    Image.new("RGB", (64, 64), (9, 9, 9)).save(image)
    assert main(moved) == 2
    assert "1 of the 6 images there are not what" in " ".join(capsys.readouterr().err.split())
    assert sorted((home / "outputs" / "train").iterdir()) == runs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fork", "train/x"], "no such run"),
        (["fork", "train/7"], "no such run"),
        (["fork", "{run}"], "a fork must change something"),
        (["fork", "{run}", "seed=0"], "changes nothing"),
        (["fork", "{run}", "adapter.dim=0"], "must be >= 1"),
        (["train", "--from", "{run}", "adapter.dim=8"], "would make it another recipe"),
        (["report", "nothing"], "no such sweep"),
    ],
)
def test_what_cannot_be_done_is_explained(
    words: list[str], said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = config.compose_recipe(TINY)
    planned = make_plan(recipe)
    folder = api.folder_of(api.plan(recipe))
    files.write_text(folder / "recipe.yaml", config.to_yaml(recipe))
    files.write_json(folder / "plan.json", to_dict(planned))

    code = main([word.replace("{run}", f"train/{folder.name}") for word in words])

    assert code == 2 and said in capsys.readouterr().err
