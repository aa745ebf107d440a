"""What a first-time user's own folder stumbles over is told with what to type."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorasweep.config import compose_recipe
from lorasweep.plan import make_plan

from .conftest import MakeRecipe


def folder_of(root: Path, sizes: Sequence[tuple[int, int]], name: str = "plain") -> Path:
    folder, rng = root / name, np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number, (width, height) in enumerate(sizes):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        path.with_suffix(".txt").write_text(f"moki, pose {number}", encoding="utf-8")
    return folder


def told(recipe_of: MakeRecipe, folder: Path, *overrides: str, holdout: float = 0) -> str:
    plan = make_plan(recipe_of(f"dataset.path={folder}", f"dataset.holdout={holdout:g}", *overrides))
    return "\n".join(plan.warnings)


def test_a_plain_folder_is_told_which_trigger_its_captions_suggest(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(64, 64)] * 6)
    (folder / "0.txt").write_text("nobody", encoding="utf-8")

    assert "5 of 6 captions begin with moki, so captions.trigger=moki?" in told(recipe_of, folder)
    assert "no trigger" not in told(recipe_of, folder, "captions.trigger=moki")
    assert "no trigger" not in told(recipe_of, folder, "dataset.prompts={class:[a robot]}")
    for number in range(6):
        (folder / f"{number}.txt").write_text(f"tag {number}", encoding="utf-8")
    assert "captions.trigger=WORD puts one" in told(recipe_of, folder)


def test_a_trigger_of_two_words_is_suggested_with_quotes(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(64, 64)] * 3)
    for number in range(2):
        (folder / f"{number}.txt").write_text("moki robot, forest", encoding="utf-8")

    assert "so 'captions.trigger=moki robot'?" in told(recipe_of, folder)


def test_cropping_names_the_image_that_loses_most_and_other_buckets(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(64, 64), (64, 96), (256, 64)])

    share = (0 + 1 / 3 + 3 / 4) / 3
    said = told(recipe_of, folder)
    assert f"{share:.0%} of your images' area is cropped away to fit a bucket, of plain/2.png up to 75%" in said
    assert said.count("cropped away") == 1, "the audit's finding and the plan's warning are one"
    assert "cropped away" not in told(recipe_of, folder, "buckets=kohya")
    assert "cropped away" not in told(recipe_of, folder_of(tmp_path, [(64, 64)] * 3, "square"))


def test_photos_on_the_embedded_base_are_told_that_it_is_for_trying(home: Path, tmp_path: Path) -> None:
    photos = folder_of(tmp_path, [(512, 640)] * 6)

    (warning,) = [text for text in make_plan(compose_recipe([f"dataset.path={photos}"])).warnings if "dolls" in text]

    assert "64 x 64 px" in warning and "base=stable_diffusion base.path=MODEL" in warning
    dolls = folder_of(tmp_path, [(64, 80)] * 6, "dolls")
    assert "dolls:" not in "\n".join(make_plan(compose_recipe([f"dataset.path={dolls}"])).warnings)
    assert "dolls:" not in "\n".join(make_plan(compose_recipe([])).warnings)


@pytest.mark.parametrize(
    ("overrides", "remedy"),
    [
        (
            ["train.epochs=5"],
            "seen 5 times on average, where characters are usually given 100 to 250: dataset.repeats=20",
        ),
        (
            ["dataset.repeats=2", "train.epochs=2"],
            "seen 4 times on average, where characters are usually given 100 to 250: train.epochs=50",
        ),
        (
            ["train.max_steps=14"],
            "seen 7 times on average, where characters are usually given 100 to 250: train.max_steps=196",
        ),
    ],
)
def test_a_budget_that_is_far_too_small_is_told_with_one_that_is_not(
    home: Path, tiny_sd: Path, tmp_path: Path, overrides: list[str], remedy: str
) -> None:
    folder = folder_of(tmp_path, [(64, 64)] * 6)
    common = [f"dataset.path={folder}", "dataset.holdout=0", "base=stable_diffusion", f"base.path={tiny_sd}"]

    plan = make_plan(compose_recipe([*common, *overrides]))

    assert any(remedy in warning for warning in plan.warnings), plan.warnings
    name, _, value = remedy.rsplit(" ", 1)[1].partition("=")
    mended = make_plan(compose_recipe([*common, *overrides], [f"{name}={value}"]))
    assert 90 <= mended.exposures_per_image <= 110
    assert not any("on average" in warning for warning in mended.warnings)


def test_an_undercooked_budget_is_never_mended_with_a_rate_that_burns(home: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(64, 64)] * 10)

    def advice(*overrides: str) -> str:
        plan = make_plan(compose_recipe([f"dataset.path={folder}", *overrides]))
        return next(text for text in plan.warnings if "undercooked" in text)

    assert advice("train.max_steps=20").endswith("try train.max_steps=300 optimizer.lr=2e-3")
    assert advice("train.max_steps=400").endswith("try optimizer.lr=2e-3")


def test_images_without_a_caption_are_named_with_what_they_are_trained_with(
    recipe_of: MakeRecipe, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, [(64, 64)] * 5)
    (folder / "3.txt").rename(folder / "3.caption")

    said = told(recipe_of, folder)

    assert "no caption file for 1 of 5 images (plain/3.png): trained with an empty caption" in said
    assert ".caption files are there: captions.extension=.caption" in said
    assert "trained with the trigger alone" in told(recipe_of, folder, "captions.trigger=moki")


def test_images_of_which_none_is_kept_to_judge_by_are_told(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [(64, 64)] * 6)

    assert "dataset.holdout=0 keeps no image to judge by" in told(recipe_of, folder)
    assert "no image to judge by" not in told(recipe_of, folder, holdout=0.2)
