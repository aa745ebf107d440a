"""A recipe as overrides, and back: the same fingerprint."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lorasweep import config
from lorasweep.core.errors import ConfigError
from lorasweep.core.records import Component

RECIPES = [
    [],
    ["optimizer=prodigy", "seed=3"],
    ["buckets=four", "adapter=locon", "adapter.dim=4", "train.max_steps=30", "captions=absorbed"],
    ["captions.clean.replacements={scarlet hair: red hair}"],
    ["metrics=[burn,identity]", "metrics.identity.tiers=[recombined]"],
    ["metrics=[]"],
    ["captions.trigger='a b, c'", "dataset.prompts={class: ['x, y (z)']}"],
    ["train=debug", "base.unrelated_prompts=[]", "captions.prune=['* hair','it\\'s \"q\"']"],
    ["regularization=scale_norm"],
]


@pytest.mark.parametrize("words", RECIPES, ids=" ".join)
def test_spelled_recipes_compose_to_the_same(words: list[str]) -> None:
    recipe = config.compose_recipe(words)

    spelled = config.to_overrides(recipe)

    assert config.compose_recipe(spelled).fingerprint() == recipe.fingerprint()
    assert len(spelled) <= max(1, len(words) + 1)


def test_where_results_go_is_not_part_of_the_recipe() -> None:
    assert config.to_overrides(config.compose_recipe(["tracking=none", "launcher.workers=3"])) == []


def test_a_variation_changes_what_was_asked_and_nothing_else() -> None:
    recipe = config.compose_recipe(["optimizer.lr=2e-3", "adapter.dim=8", "seed=5"])

    varied = config.compose_recipe(config.with_overrides(recipe, ["adapter.dim=16"]))

    assert varied.adapter.options == {**recipe.adapter.options, "dim": 16}
    assert dataclasses.replace(varied, adapter=recipe.adapter) == recipe


def test_another_part_does_not_inherit_the_old_ones_knobs() -> None:
    recipe = config.compose_recipe(["optimizer.lr=2e-3", "adapter.dim=8"])

    varied = config.compose_recipe(config.with_overrides(recipe, ["optimizer=prodigy"]))

    assert varied.optimizer == config.compose_recipe(["optimizer=prodigy"]).optimizer
    assert varied.adapter == recipe.adapter


def test_a_recipe_of_another_version_is_refused() -> None:
    recipe = config.compose_recipe([])
    strange = dataclasses.replace(recipe, adapter=Component(name="lora", options={"rank_of_old": 3}))

    with pytest.raises(ConfigError, match="rank_of_old"):
        config.compose_recipe(config.to_overrides(strange))


def test_a_run_whose_images_were_moved_is_varied_by_where_they_are_now(tmp_path: Path) -> None:
    for name in ("was", "is"):
        (tmp_path / name).mkdir()
    recipe = config.compose_recipe([f"dataset.path={tmp_path / 'was'}", "adapter.dim=8"])
    (tmp_path / "was").rmdir()

    with pytest.raises(ConfigError, match="no such folder"):
        config.compose_recipe(config.with_overrides(recipe, ["adapter.dim=4"]))
    moved = config.compose_recipe(config.with_overrides(recipe, [f"dataset.path={tmp_path / 'is'}"]))
    assert moved.dataset.path == str(tmp_path / "is") and moved.adapter == recipe.adapter
