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
