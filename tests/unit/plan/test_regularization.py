"""Regularization images as they are planned: which, how often, what they cost, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planned_steps import exposures

from lorasweep.cli import main
from lorasweep.components.regularizers.anti_bleed import words_of
from lorasweep.core import paths
from lorasweep.core.errors import InputError
from lorasweep.core.records import Plan, Recipe, from_dict, to_dict
from lorasweep.plan import make_plan
from lorasweep.plan.cost import caches

MakeRecipe = Callable[..., Recipe]
Planned = Callable[..., tuple[Recipe, Plan]]


@pytest.fixture
def girls(tmp_path: Path) -> Path:
    """Kohya's regularization folder: 5 images at 2 repeats, the last one with a caption file."""
    folder = tmp_path / "reg" / "2_girl"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    for number in range(5):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "4.txt").write_text("girl, smile", encoding="utf-8")
    return folder.parent


@pytest.fixture
def planned(recipe_of: MakeRecipe, photos: Path) -> Planned:
    def plan(*overrides: str) -> tuple[Recipe, Plan]:
        recipe = recipe_of(f"dataset.path={photos}", *overrides)
        return recipe, make_plan(recipe)

    return plan


def by_concept(plan: Plan, recipe: Recipe) -> Counter[str]:
    """Exposures of each concept, counted step by step."""
    seen: Counter[str] = Counter()
    for index, times in exposures(plan, recipe).items():
        seen[plan.trained_on()[index].concept] += times
    return seen


def test_a_folder_is_cycled_until_it_keeps_up_and_an_epoch_doubles(planned: Planned, girls: Path) -> None:
    reg = ["regularization=reg_images", f"regularization.reg_images.path={girls}", "train.epochs=2"]
    _, plain = planned("train.epochs=2")
    recipe, plan = planned(*reg)

    trained = sum(image.repeats for image in plan.train_images())
    assert len(plan.reg_images) == 5
    assert (
        sum(image.repeats for image in plan.reg_images)
        == trained
        == sum(image.repeats for image in plain.train_images())
    )
    # Five images at 2 repeats, then 1 more each in turn: no two differ by more than one.
    assert {image.repeats for image in plan.reg_images} <= {trained // 5, trained // 5 + 1}
    assert [image.caption for image in plan.reg_images] == ["girl"] * 4 + ["girl, smile"]
    assert plan.batches_per_epoch == pytest.approx(2 * plain.batches_per_epoch, abs=1)
    assert plan.images == plain.images and plan.fingerprint != plain.fingerprint
    assert plan.exposures == plain.exposures and plan.tag_exposures == plain.tag_exposures
    seen = by_concept(plan, recipe)
    assert {"reg_images": seen.pop("reg_images")} == plan.reg_exposures and dict(seen) == plan.exposures
    assert f"{plan.steps} in all instead of {plain.steps}" in " ".join(plan.warnings)
    assert from_dict(Plan, json.loads(json.dumps(to_dict(plan)))) == plan
    before, now = caches([(plain, recipe)]), caches([(plan, recipe)])  # encoded once as the others are
    assert now["latents"] == before["latents"] + 5 and now["captions"] == before["captions"] + 2


def test_with_fixed_steps_they_take_their_share_of_the_exposures(planned: Planned, girls: Path) -> None:
    reg = ["regularization=reg_images", f"regularization.reg_images.path={girls}", "train.max_steps=37"]
    recipe, plan = planned(*reg, "regularization.reg_images.share=0.5", "buckets=four", "seed=3")

    seen = by_concept(plan, recipe)
    assert plan.steps == 37 and plan.reg_exposures == {"reg_images": seen.pop("reg_images")}
    assert dict(seen) == plan.exposures
    trained = sum(image.repeats for image in plan.train_images())
    assert sum(image.repeats for image in plan.reg_images) == round(trained / 2)
    (sentence,) = [text for text in plan.warnings if "train.max_steps fixes" in text]
    assert f"is seen {round(plan.exposures_per_image, 1):g} times instead of" in sentence


def test_a_dry_run_whose_only_image_is_a_regularization_image_is_planned(
    home: Path, on_tiny_sd: list[str], photos: Path, girls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", *on_tiny_sd, f"dataset.path={photos}", "train.batch_size=1", "train.max_steps=1"]
    words += ["regularization=reg_images", f"regularization.reg_images.path={girls}"]
    assert main([*words, "seed=6"]) == 0
    assert "8 training images are never seen in 1 steps" in " ".join(capsys.readouterr().out.split())


def test_images_beyond_what_is_needed_are_left_out_and_that_is_said(planned: Planned, girls: Path) -> None:
    reg = ["regularization=reg_images", f"regularization.reg_images.path={girls}"]
    _, plan = planned(*reg, "regularization.reg_images.share=0.2", "regularization.reg_images.prior_loss_weight=0.3")

    assert len(plan.reg_images) < 5 and {image.loss_weight for image in plan.reg_images} == {0.3}
    assert any("of 5 images are left out" in text for text in plan.warnings)


def test_captions_are_cleaned_like_the_datasets_but_neither_pruned_nor_given_a_trigger(
    planned: Planned, girls: Path
) -> None:
    (girls / "2_girl" / "0.txt").write_text("Red_Hair, GIRL", encoding="utf-8")
    reg = ["regularization=reg_images", f"regularization.reg_images.path={girls}", "captions=absorbed"]
    _, plan = planned(*reg)

    assert plan.reg_images[0].caption == "red hair, girl"
    assert not any("have the trigger" in text for text in plan.warnings)
    (girls / "2_girl" / "0.txt").write_text("zkw, girl", encoding="utf-8")
    assert any("have the trigger zkw" in text for text in planned(*reg)[1].warnings)


def test_the_dollhouse_draws_strangers(recipe_of: MakeRecipe) -> None:
    plan = make_plan(recipe_of("regularization=reg_images", "regularization.reg_images.strangers=6"))

    assert len(plan.reg_images) == 6 and all(Path(image.file).is_file() for image in plan.reg_images)
    assert all(image.caption.startswith("1girl, ") for image in plan.reg_images)
    assert len({image.caption for image in plan.reg_images}) > 3
    assert {image.sha256 for image in plan.reg_images}.isdisjoint(image.sha256 for image in plan.images)


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        ("Mona_Taco", ["Mona", "Taco"]),
        ("mona taco", ["mona", "taco"]),
        ("MonaTaco", ["MonaTaco"]),
        ("mona-taco2 MONA", ["mona", "taco"]),
        ("zkw", ["zkw"]),
        ("x_1", []),
    ],
)
def test_words_inside_a_trigger(trigger: str, words: list[str]) -> None:
    assert words_of(trigger) == words


def test_anti_bleed_has_the_base_draw_each_word_once_for_all_trials(recipe_of: MakeRecipe) -> None:
    asked = [
        "captions.trigger=green beach",
        "regularization=anti_bleed",
        "regularization.anti_bleed.images=3",
        "buckets=four",
    ]
    plan, again = make_plan(recipe_of(*asked)), make_plan(recipe_of(*asked, "seed=8", "optimizer.lr=1e-3"))

    assert [image.caption for image in plan.reg_images] == ["green", "beach"] * 3
    assert all(image.drawing and image.drawing.prompt == image.caption for image in plan.reg_images)
    assert len({image.file for image in plan.reg_images}) == 6
    assert {image.bucket for image in plan.reg_images} <= {image.bucket for image in plan.train_images()}
    assert all((i.width_px, i.height_px) == i.resize_px for i in plan.reg_images)
    assert not any(Path(image.file).exists() for image in plan.reg_images)
    assert [i.file for i in again.reg_images] == [i.file for i in plan.reg_images]
    assert all(Path(image.file).is_relative_to(paths.cache()) for image in plan.reg_images)
    for other in (
        "sample.steps=5",
        "sample.guidance=2",
        "sample.guidance_rescale=0.5",
        "base.negative_prompt=ugly",
        "dataset.holdout_seed=1",
    ):
        differing = make_plan(recipe_of(*asked, other)).reg_images
        assert {i.file for i in differing}.isdisjoint(i.file for i in plan.reg_images), other


def test_a_drawn_subject_answers_to_another_trigger_everywhere(recipe_of: MakeRecipe) -> None:
    plan = make_plan(recipe_of("captions.trigger=green beach"))

    assert plan.trigger == "green beach" and "zkw" not in plan.tag_exposures
    assert all(image.caption.startswith("green beach, 1girl") for image in plan.images)
    called = [*plan.prompts["in_distribution"], *plan.prompts["recombined"]]
    assert all(prompt.startswith("green beach, ") and "zkw" not in prompt for prompt in called)
    assert not any("green beach" in prompt for prompt in plan.prompts["class"])


def test_neutralize_takes_the_tags_of_nearly_every_caption(planned: Planned) -> None:
    _, plan = planned("regularization=neutralize", "regularization.neutralize.images=2")
    assert {image.caption for image in plan.reg_images} == {"1girl"}

    lower = ["regularization=neutralize", "regularization.neutralize.captured=0.3"]
    _, plan = planned(*lower)
    assert {image.caption for image in plan.reg_images} == {"1girl", "hat", "coat"}
    _, plan = planned("regularization=neutralize", "regularization.neutralize.tags=[hat, red hair]")
    assert [image.caption for image in plan.reg_images][:2] == ["hat", "red hair"]


def test_prior_prediction_alone_shows_the_dataset_again_without_its_trigger(planned: Planned) -> None:
    _, plan = planned("regularization=prior_prediction")

    trained = {image.sha256: image for image in plan.train_images()}
    assert {image.sha256 for image in plan.reg_images} == set(trained)
    for image in plan.reg_images:
        assert image.target == "base" and image.split == "regularization"
        assert f"zkw, {image.caption}" == trained[image.sha256].caption
    assert {image.target for image in plan.images} == {"noise"}
    assert any("the base for 50% of the targets: one more forward pass" in text for text in plan.warnings)


def test_prior_prediction_with_others_answers_their_images_too(planned: Planned, girls: Path) -> None:
    several = ["scale_norm", "prior_prediction", "reg_images", "neutralize"]
    reg = [f"regularization=[{','.join(several)}]", f"regularization.reg_images.path={girls}"]
    _, plan = planned(*reg)

    assert set(plan.reg_exposures) == {"reg_images", "neutralize"}
    assert {image.target for image in plan.reg_images} == {"base"}
    trained = sum(image.repeats for image in plan.train_images())
    for name in plan.reg_exposures:
        assert sum(i.repeats for i in plan.reg_images if i.concept == name) == trained


def test_every_problem_is_said_at_once_and_ends_with_2(
    photos: Path, tiny_sd: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bare").mkdir()
    shutil.copy(photos / "3_zkw outfit1" / "0.png", tmp_path / "bare" / "copy.png")
    words = [
        "plan",
        f"base.path={tiny_sd}",
        f"dataset.path={photos}",
        "regularization=[reg_images,anti_bleed,neutralize]",
        f"regularization.reg_images.path={tmp_path / 'bare'}",
        "regularization.neutralize.captured=1.0",
        "captions.prune=[1girl]",
    ]

    assert main(words) == 2

    said = " ".join(capsys.readouterr().err.split())
    assert "4 problems" in said
    assert "1 of 1 images have neither a caption file nor a folder name" in said
    assert "1 of 1 images are also in the dataset, e.g. bare/copy.png" in said
    assert "regularization.anti_bleed.words 'zkw' has the trigger" in said
    assert "no tag is in 100% of the captions" in said


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["regularization=reg_images", "regularization.reg_images.path=nowhere"],
            "no such folder: 'nowhere'",
        ),
        (["regularization=reg_images"], "must be given with images of your own"),
        (["regularization=anti_bleed", "captions.trigger=x1"], "the trigger is 'x1'"),
        (
            ["regularization=anti_bleed", "regularization.anti_bleed.words=[]"],
            "must be null, which works them out, or have words",
        ),
        (
            ["regularization=anti_bleed", "regularization.anti_bleed.words=[ZKW]"],
            "'ZKW' has the trigger",
        ),
        (
            ["regularization=anti_bleed", "regularization.anti_bleed.words=[hat, a zkw hat]"],
            "'a zkw hat' has the trigger",
        ),
        (
            ["regularization=anti_bleed", "captions.trigger=mona_taco", "regularization.anti_bleed.words=[mona taco]"],
            "'mona taco' has the trigger",
        ),
        (
            ["regularization=neutralize", "regularization.neutralize.tags=[zkw hat]"],
            "'zkw hat' has the trigger",
        ),
        (
            ["regularization=neutralize", "regularization.neutralize.captured=0"],
            "must be in \\(0, 1\\], got 0",
        ),
        (["regularization=neutralize", "regularization.neutralize.images=0"], r"must be in \[1, 10000\], got 0"),
        (
            ["regularization=prior_prediction", "regularization.prior_prediction.share=0"],
            "must be in \\(0, 10\\]",
        ),
        (
            ["regularization=prior_prediction", "regularization.prior_prediction.prior_loss_weight=-1"],
            r"must be in \(0, 100\], got -1",
        ),
    ],
)
def test_what_cannot_be_is_refused(planned: Planned, overrides: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        planned(*overrides)


def test_a_folder_inside_the_dataset_is_told_apart(planned: Planned, photos: Path, girls: Path) -> None:
    shutil.copytree(girls, photos / "reg")
    _, plan = planned("regularization=reg_images", f"regularization.reg_images.path={photos / 'reg'}")
    assert len(plan.images) == 10 and len(plan.reg_images) == 5
    shutil.move(girls / "2_girl", photos / "2_girl")
    reg = ["regularization=reg_images", f"regularization.reg_images.path={photos / '2_girl'}"]
    with pytest.raises(InputError, match="5 of 5 images are also in the dataset.*holds this folder too"):
        planned(*reg)


def test_an_empty_folder_is_refused(planned: Planned, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    reg = ["regularization=reg_images", f"regularization.reg_images.path={tmp_path / 'empty'}"]
    with pytest.raises(InputError, match="has no images"):
        planned(*reg)


def test_without_a_trigger_there_is_nothing_to_take_out_or_apart(
    recipe_of: MakeRecipe, photos: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(photos / "3_zkw outfit1", plain)
    for caption in plain.glob("*.txt"):
        caption.write_text(caption.read_text().removeprefix("zkw, "))
    for name, words in (("prior_prediction", "there is no trigger"), ("anti_bleed", "there is no trigger")):
        with pytest.raises(InputError, match=words):
            make_plan(recipe_of(f"regularization={name}", f"dataset.path={plain}"))


def test_plan_tells_people_and_scripts(
    photos: Path, tiny_sd: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"base.path={tiny_sd}", f"dataset.path={photos}", "train.epochs=1"]
    words += ["regularization=[scale_norm,neutralize]", "regularization.neutralize.images=4"]
    assert main(["plan", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)["arms"][0]
    brake, source = found["regularization"]["regularizers"]
    assert brake == {"name": "scale_norm", "knobs": {"max_norm": 1.0}}
    assert source["images"] == source["drawn_by_base"] == source["to_draw"] == 4
    assert source["captions"] == {"1girl": 4} and source["target"] == "noise"
    assert source["exposures"] == sum(found["exposures"].values())
    assert found["regularization"]["without"]["steps"] < found["steps_per_trial"]

    assert main(["plan", *words]) == 0
    shown = capsys.readouterr().out
    assert "4 to draw" in " ".join(shown.split()) and "steps an epoch instead of" in " ".join(shown.split())
