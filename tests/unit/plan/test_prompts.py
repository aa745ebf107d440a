"""Prompts by tier: taken from the config, from the drawn world, or derived from captions."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

from lorasweep import config
from lorasweep.core.records import PROMPT_TIERS, Recipe
from lorasweep.data.captions import has_trigger
from lorasweep.plan import make_plan
from lorasweep.plan.sample_requests import _recombined

MakeRecipe = Callable[..., Recipe]


def test_derived_prompts_ask_what_each_tier_is_for(recipe_of: MakeRecipe, photos: Path) -> None:
    recipe = recipe_of(f"dataset.path={photos}")
    plan = make_plan(recipe)
    captions = {image.caption for image in plan.train_images()}

    assert tuple(plan.prompts) == PROMPT_TIERS
    assert set(plan.prompts["in_distribution"]) <= captions
    assert all(has_trigger(prompt, "zkw") for prompt in plan.prompts["recombined"])
    assert not set(plan.prompts["recombined"]) & captions
    assert not any(has_trigger(p, "zkw") for tier in ("class", "unrelated") for p in plan.prompts[tier])
    assert all("1girl" in prompt for prompt in plan.prompts["class"])
    assert plan.prompts["unrelated"] == recipe.base.unrelated_prompts[:2]
    assert all(len(prompts) == 2 for prompts in plan.prompts.values())


def test_recombined_prompts_join_tags_of_different_captions(recipe_of: MakeRecipe, photos: Path) -> None:
    for number, text in enumerate(sorted(photos.rglob("*.txt"))):
        text.write_text(f"zkw, 1girl, dress{number}, pose{number}, place{number}, light{number}", "utf-8")
    plan = make_plan(recipe_of(f"dataset.path={photos}"))
    captions = [set(image.caption.split(", ")) for image in plan.train_images()]

    assert len(plan.prompts["recombined"]) == 2
    for prompt in plan.prompts["recombined"]:
        tags = set(prompt.split(", "))
        assert tags <= set.union(*captions), "every tag is known"
        assert not any(tags <= caption for caption in captions), "together they are not"


def test_sentences_are_recombined_with_scenes(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    folder = tmp_path / "5_zkw person"
    folder.mkdir()
    for number in range(6):
        image = Image.new("RGB", (64, 64), (40 * number, 0, 0))
        ImageDraw.Draw(image).ellipse((number * 5, 5, number * 5 + 30, 50), fill=(0, 255, 40 * number))
        image.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a photo of zkw person")

    plan = make_plan(recipe_of(f"dataset.path={folder}"))

    assert plan.prompts["in_distribution"] == ("a photo of zkw person",)
    assert plan.prompts["class"] == ("a photo of person",)
    assert all(prompt.startswith("a photo of zkw person, ") for prompt in plan.prompts["recombined"])


def test_a_tier_from_the_config_is_taken_as_it_is(recipe_of: MakeRecipe, photos: Path) -> None:
    plan = make_plan(recipe_of(f"dataset.path={photos}", "dataset.prompts.class=['1girl, sword']"))

    assert plan.prompts["class"] == ("1girl, sword",)
    assert len(plan.prompts["in_distribution"]) == 2


def test_a_prompt_given_twice_is_drawn_once(recipe_of: MakeRecipe, photos: Path) -> None:
    """A picture is named by its prompt and seed; two of one name could not be written down."""
    plan = make_plan(recipe_of(f"dataset.path={photos}", "dataset.prompts.class=['a hat','a sword','a hat']"))

    assert plan.prompts["class"] == ("a hat", "a sword")


def test_a_plain_folder_without_a_trigger_has_no_class_prompts(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    Image.new("RGB", (64, 64), (1, 2, 3)).save(folder / "a.png")
    (folder / "a.txt").write_text("1girl, hat")

    plan = make_plan(recipe_of(f"dataset.path={folder}"))

    assert "class" not in plan.prompts
    assert any("no prompts for tier class" in warning for warning in plan.warnings)


def test_the_drawn_dataset_brings_its_own_prompts(recipe_of: MakeRecipe) -> None:
    plan = make_plan(recipe_of())

    assert all(prompt.startswith("zkw, 1girl") for prompt in plan.prompts["recombined"])
    assert not any("zkw" in prompt for prompt in plan.prompts["class"])


def test_many_captions_are_recombined_without_pairing_all_of_them() -> None:
    options = config.compose_recipe([]).captions
    texts = [f"zkw, hat, one{n % 40}, two{n % 41}, three{n}" for n in range(5_000)]
    captions = [set(text.split(", ")) for text in texts]
    tracemalloc.start()
    try:
        found = _recombined(texts, ("zkw",), options, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(found) == 2 and peak < 50e6
    for prompt in found:
        assert prompt.startswith("zkw, hat, ")
        assert not any(set(prompt.split(", ")) <= caption for caption in captions)


def test_prompts_of_any_tier_come_on_top_each_by_its_trigger(recipe_of: MakeRecipe, photos: Path) -> None:
    derived = make_plan(recipe_of(f"dataset.path={photos}"))
    seen = next(image.caption for image in derived.train_images())
    wanted = {"in_distribution": seen, "recombined": "zkw, on the moon", "class": "1girl, on the moon"}
    given = f"dataset.prompts.any={json.dumps([*wanted.values()])}"
    prompts = make_plan(recipe_of(f"dataset.path={photos}", given)).prompts
    for tier, each in derived.prompts.items():
        assert prompts[tier] == tuple(dict.fromkeys([*each, *([wanted[tier]] if tier in wanted else [])]))
