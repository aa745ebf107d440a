"""A recipe's file, or nothing but keys, with several values: a sweep, planned and run again by its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorasweep import config
from lorasweep.cli import main

AXES = ["optimizer.lr=1e-4,1e-3", "adapter.dim=4,8"]


@pytest.fixture
def recipe(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(home)
    (home / "my.yaml").write_text("recipe: {adapter: locon, train.max_steps: 40, seed: 42}\n", encoding="utf-8")
    return "my.yaml"


def test_a_recipe_file_with_axes_is_a_sweep_with_the_recipes_seed(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", recipe, *AXES, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == 4
    spec = config.load_sweep(recipe, AXES)
    assert spec.name.startswith("my-") and spec.seeds == (42,)
    assert {(arm.recipe.adapter.name, arm.recipe.train.max_steps) for arm in spec.known} == {("locon", 40)}


def test_keys_with_several_values_are_planned_too(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *AXES, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == 4


def test_without_axes_it_says_what_to_do(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", recipe]) == 2
    assert "lorasweep train my.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["Überlauf", "U\u0308berlauf", "日本"])
def test_a_sweep_may_be_called_by_letters_of_any_script(home: Path, name: str) -> None:
    file = home / f"{name}.yaml"
    file.write_text("sweep: {question: Which, arms: {a: {adapter.dim: 4}}}\n", encoding="utf-8")
    assert config.load_sweep(str(file)).name in ("Überlauf", "日本")


def test_a_key_with_dashes_is_refused_with_how_it_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--adapter.dim=4"])
    assert "without dashes, as KEY=VALUE: adapter.dim=4" in capsys.readouterr().err


def test_another_part_on_an_axis_leaves_the_files_knobs_to_the_one_they_are_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `optimizer=prodigy` alone does: Prodigy knows no eps, and would hardly learn at AdamW's rate."""
    monkeypatch.chdir(home)
    lines = "optimizer: adamw, optimizer.lr: 2e-4, optimizer.eps: 1e-7, captions.trigger: zkw, adapter.dim: 4"
    (home / "my.yaml").write_text(f"recipe: {{{lines}}}\n", encoding="utf-8")
    words = ["my.yaml", "optimizer=adamw,prodigy,lion", "captions=as_written,absorbed", "train.max_steps=8"]

    assert main(["plan", *words]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "the file's optimizer.lr=0.0002 optimizer.eps=1e-07 goes with optimizer=adamw only" in told
    spec = config.load_sweep(words[0], words[1:])
    recipes = {arm.recipe.optimizer.name: arm.recipe for arm in spec.known}
    alone = {name: config.load_recipe("my.yaml", [f"optimizer={name}"]) for name in ("prodigy", "lion")}
    assert {name: recipes[name].optimizer for name in alone} == {name: each.optimizer for name, each in alone.items()}
    assert (recipes["adamw"].optimizer.options["lr"], recipes["adamw"].optimizer.options["eps"]) == (2e-4, 1e-7)
    assert {(arm.recipe.captions.trigger, arm.recipe.adapter.options["dim"]) for arm in spec.known} == {("zkw", 4)}
    rates = config.load_sweep(words[0], [*words[1:], "optimizer.lr=1e-4,1"])  # an axis of its own is everybody's
    assert {arm.recipe.optimizer.options["lr"] for arm in rates.known} == {1e-4, 1}


def test_a_list_on_an_axis_leaves_the_files_knobs_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    lines = "regularization: [ema], regularization.ema.decay: 0.99, +optimizer.eps: 1e-7"
    (home / "my.yaml").write_text(f"recipe: {{{lines}}}\n", encoding="utf-8")
    for key, words in (("regularization", ["[ema]", "[scale_norm]", "none"]), ("optimizer", ["prodigy"])):
        spec = config.load_sweep("my.yaml", [f"{key}={','.join(words if words[1:] else ['adamw', *words])}"])
        alone = {config.load_recipe("my.yaml", [f"{key}={word}"]).fingerprint() for word in words}
        assert alone <= {arm.recipe.fingerprint() for arm in spec.known}
