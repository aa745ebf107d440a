"""Plans of real folders and of the drawn dataset: every number checked against brute force."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from planned_steps import exposures

from lorasweep.cli import main
from lorasweep.core import paths
from lorasweep.core.errors import InputError
from lorasweep.core.records import Bucket, Plan, PlannedImage, Recipe, TrainOptions, from_dict, to_dict
from lorasweep.plan import budget, for_seed, make_plan

MakeRecipe = Callable[..., Recipe]


@pytest.mark.parametrize(
    "budget_overrides",
    [
        ["train.epochs=2"],
        ["train.max_steps=17"],
        ["train.max_steps=1"],
        ["train.epochs=3", "train.gradient_accumulation=3", "train.batch_size=2"],
        ["train.epochs=2", "train.steps_per_epoch=5"],
        ["train.max_steps=10", "seed=9", "dataset.repeats=7"],
    ],
)
def test_exposures_are_exact(recipe_of: MakeRecipe, photos: Path, budget_overrides: list[str]) -> None:
    recipe = recipe_of(f"dataset.path={photos}", "buckets=four", *budget_overrides)

    plan = make_plan(recipe)

    train, seen = plan.train_images(), exposures(plan, recipe)
    concepts: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    for index, times in seen.items():
        concepts[train[index].concept] += times
        tags.update({tag: times for tag in train[index].caption.split(", ")})
    assert {concept: times for concept, times in plan.exposures.items() if times} == dict(concepts)
    assert {tag: times for tag, times in plan.tag_exposures.items() if times} == dict(tags)
    assert plan.exposures_per_image == pytest.approx(seen.total() / len(train))


def test_epochs_and_steps_are_kohyas(recipe_of: MakeRecipe, photos: Path) -> None:
    recipe = recipe_of(f"dataset.path={photos}", "dataset.holdout=0", "buckets=four", "train.epochs=3")

    plan = make_plan(recipe)

    # 2 x 3 + 2 x 2 tall images seen and 4 x 3 + 2 x 2 square ones, in batches of 4: ceil(10/4) + ceil(16/4)
    assert Counter(image.bucket for image in plan.images) == {
        Bucket(width_px=48, height_px=80): 4,
        Bucket(width_px=64, height_px=64): 6,
    }
    assert (plan.batches_per_epoch, plan.steps_per_epoch, plan.steps) == (7, 7, 21)
    accumulated = make_plan(
        recipe_of(f"dataset.path={photos}", "dataset.holdout=0", "buckets=four", "train.gradient_accumulation=2")
    )
    assert (accumulated.batches_per_epoch, accumulated.steps_per_epoch, accumulated.steps) == (7, 4, 32)


def test_max_steps_win_over_epochs(recipe_of: MakeRecipe, photos: Path) -> None:
    assert make_plan(recipe_of(f"dataset.path={photos}", "train.max_steps=5", "train.epochs=9")).steps == 5


def test_shared_tags_are_trained_by_every_concept(recipe_of: MakeRecipe, photos: Path) -> None:
    plan = make_plan(recipe_of(f"dataset.path={photos}", "train.epochs=1", "dataset.holdout=0"))

    assert plan.exposures == {"2_zkw outfit2": 8, "3_zkw outfit1": 18}
    assert plan.tag_exposures["zkw"] == plan.tag_exposures["1girl"] == 26
    assert plan.tag_exposures["hat"] == 18
    assert any("share the trigger zkw: it is trained 26 times" in warning for warning in plan.warnings)


def test_captions_get_the_trigger_of_their_folder_or_the_recipe(recipe_of: MakeRecipe, photos: Path) -> None:
    (photos / "3_zkw outfit1" / "0.txt").unlink()

    plan = make_plan(recipe_of(f"dataset.path={photos}"))

    captions = {Path(image.file).relative_to(photos).as_posix(): image.caption for image in plan.images}
    assert plan.trigger == "zkw"
    assert captions["3_zkw outfit1/0.png"] == "zkw outfit1"
    assert captions["3_zkw outfit1/1.png"] == "zkw, 1girl, hat, tag1"
    assert any("no caption file" in warning for warning in plan.warnings)
    other = make_plan(recipe_of(f"dataset.path={photos}", "captions.trigger=ohru"))
    assert other.trigger == "ohru" and all(image.caption.startswith("ohru, ") for image in other.images)


def test_the_planned_crop_covers_the_bucket(recipe_of: MakeRecipe, photos: Path) -> None:
    plan = make_plan(recipe_of(f"dataset.path={photos}", "buckets=single"))

    tall = next(image for image in plan.images if image.height_px == 96)
    assert (tall.bucket, tall.resize_px, tall.crop_px) == (
        Bucket(width_px=64, height_px=64),
        (64, 96),
        (0, 16),
    )


def test_no_held_out_image_is_trained_on_nor_a_copy_of_one(recipe_of: MakeRecipe, photos: Path) -> None:
    first = photos / "3_zkw outfit1" / "1.png"
    Image.open(first).save(photos / "2_zkw outfit2" / "copy.jpg", quality=95)

    for seed in range(8):
        plan = make_plan(recipe_of(f"dataset.path={photos}", f"dataset.holdout_seed={seed}"))
        sides = {Path(image.file).name: image.split for image in plan.images if image.concept.startswith("3_")}
        copy = next(image for image in plan.images if image.file.endswith("copy.jpg"))
        assert copy.split == sides["1.png"]
        assert len(plan.held_out_images()) == 2
    assert any("in several concepts" in warning for warning in plan.warnings)


def test_four_images_are_all_trained_on_with_a_warning(recipe_of: MakeRecipe, photos: Path) -> None:
    plan = make_plan(recipe_of(f"dataset.path={photos / '2_zkw outfit2'}"))

    assert not plan.held_out_images()
    assert any("no image is held out: 4 images are too few" in warning for warning in plan.warnings)


def test_the_same_recipe_gives_the_same_plan_and_json_keeps_it(recipe_of: MakeRecipe, photos: Path) -> None:
    recipe = recipe_of(f"dataset.path={photos}", "buckets=kohya")

    plan = make_plan(recipe)

    assert make_plan(recipe) == plan
    assert from_dict(Plan, json.loads(json.dumps(to_dict(plan)))) == plan


def test_the_fingerprint_follows_content_not_location(
    recipe_of: MakeRecipe, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    recipe = recipe_of("dataset.path=photos")
    before = make_plan(recipe)
    shutil.copytree(photos, photos.parent / "moved" / "photos")
    monkeypatch.chdir(photos.parent / "moved")
    assert make_plan(recipe).fingerprint == before.fingerprint

    (photos.parent / "moved" / "photos" / "3_zkw outfit1" / "2.txt").write_text("1girl, other")
    assert make_plan(recipe).fingerprint != before.fingerprint


def test_rungs_are_even_and_end_with_the_last_step() -> None:
    assert budget.rungs(100, 4) == (25, 50, 75, 100)
    assert budget.rungs(10, 3) == (3, 7, 10)
    assert budget.rungs(2, 5) == (1, 2)
    assert budget.rungs(1, 1) == (1,)


@given(st.integers(1, 5000), st.integers(1, 30))
def test_rungs_ascend(steps: int, count: int) -> None:
    found = budget.rungs(steps, count)

    assert list(found) == sorted(set(found)) and found[-1] == steps and found[0] >= 1
    assert len(found) == min(count, steps)


def test_the_drawn_dataset_is_reused_and_redrawn_when_lost(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of("dataset.dollhouse.images=6")
    plan = make_plan(recipe)
    folder = Path(plan.images[0].file).parents[1]
    stamp = os.stat(plan.images[0].file).st_mtime_ns

    assert folder.parent == paths.cache() / "dollhouse"
    assert make_plan(recipe) == plan
    assert os.stat(plan.images[0].file).st_mtime_ns == stamp
    shutil.rmtree(folder)
    assert make_plan(recipe) == plan
    assert [item.name for item in folder.parent.iterdir()] == [folder.name]


def test_the_dials_of_the_drawn_dataset_reach_the_plan(recipe_of: MakeRecipe) -> None:
    plan = make_plan(
        recipe_of("dataset.dollhouse.subject=vqx", "dataset.dollhouse.images=9", "dataset.dollhouse.outfits=3")
    )

    assert len(plan.images) == 9
    assert set(plan.exposures) == {"10_vqx outfit1", "10_vqx outfit2", "10_vqx outfit3"}
    assert plan.trigger == "vqx"
    assert set(plan.prompts) == {"in_distribution", "recombined", "class", "unrelated"}


def test_a_subject_nobody_knows(recipe_of: MakeRecipe) -> None:
    with pytest.raises(InputError, match="must be one of zkw"):
        make_plan(recipe_of("dataset.dollhouse.subject=nobody"))


def test_everything_wrong_is_raised_at_once(recipe_of: MakeRecipe, photos: Path, tmp_path: Path) -> None:
    (photos / "3_zkw outfit1" / "1.png").write_text("text")
    broken = photos / "2_zkw outfit2" / "2.png"
    broken.write_bytes(broken.read_bytes()[:200])

    with pytest.raises(InputError) as caught:
        make_plan(recipe_of(f"dataset.path={photos}", f"base.path={tmp_path / 'no_base'}"))

    assert [problem.where for problem in caught.value.problems] == [
        "base.path",
        "2_zkw outfit2/2.png",
        "3_zkw outfit1/1.png",
    ]


def test_images_are_inspected_once(recipe_of: MakeRecipe, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(f"dataset.path={photos}")
    plan = make_plan(recipe)
    opened: list[Path] = []
    from lorasweep.plan import image_facts_cache

    inspect = image_facts_cache.inspect
    monkeypatch.setattr(image_facts_cache, "inspect", lambda path: (opened.append(path), inspect(path))[1])

    assert make_plan(recipe) == plan and not opened
    changed = photos / "3_zkw outfit1" / "1.png"
    Image.new("RGB", (70, 70), (9, 9, 9)).save(changed)
    assert make_plan(recipe) != plan and opened == [changed]
    (paths.cache() / "images.json").write_text("torn")
    assert make_plan(recipe).images


@pytest.mark.skipif(os.name == "nt", reason="Windows has no time of the last change of any kind")
def test_another_picture_of_the_same_size_and_time_is_noticed(recipe_of: MakeRecipe, photos: Path) -> None:
    """Trained on was what the cache had of the one before; without it, `plan` and `train` each blamed the other."""
    recipe, photo = recipe_of(f"dataset.path={photos}"), photos / "2_zkw outfit2" / "drawn.bmp"
    Image.new("RGB", (64, 64), (9, 9, 9)).save(photo)
    before, plan = photo.stat(), make_plan(recipe)
    while photo.stat().st_ctime_ns == before.st_ctime_ns:
        Image.new("RGB", (64, 64), (200, 9, 9)).save(photo)
        os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert photo.stat().st_size == before.st_size
    (image,) = (image for image in make_plan(recipe).images if image.file == str(photo))
    assert image.sha256 == hashlib.sha256(photo.read_bytes()).hexdigest()
    assert image not in plan.images


def test_without_upscaling_small_images_keep_their_pixels(recipe_of: MakeRecipe, photos: Path) -> None:
    Image.new("RGB", (40, 40), (9, 9, 9)).save(photos / "2_zkw outfit2" / "small.png")
    options = [f"dataset.path={photos}", "buckets=kohya"]

    enlarged = make_plan(recipe_of(*options))
    kept = make_plan(recipe_of(*options, "buckets.upscale=false"))

    def small(plan: Plan) -> PlannedImage:
        return next(image for image in plan.images if image.file.endswith("small.png"))

    assert small(enlarged).resize_px == (64, 64)
    assert any("enlarged more than 1.5 times (small.png: 1.6 times)" in w for w in enlarged.warnings)
    assert (small(kept).resize_px, small(kept).bucket) == ((40, 40), Bucket(width_px=40, height_px=40))
    Image.new("RGB", (7, 40), (9, 9, 9)).save(photos / "2_zkw outfit2" / "small.png")
    with pytest.raises(InputError, match="less than one bucket step"):
        make_plan(recipe_of(*options, "buckets.upscale=false"))


@pytest.mark.parametrize(
    ("overrides", "warning"),
    [
        (["buckets=four", "train.batch_size=5"], "bucket 48x80 has"),
        (["train.epochs=501"], "expect overcooking"),
        (["train.max_steps=1"], "are never seen in 1 steps"),
        (["train.max_steps=2"], "leave room for 2 rungs, not 4"),
        (["buckets.upscale=false"], "the list of sizes is not used"),
        (["optimizer=prodigy", "optimizer.lr=0.1"], "keep optimizer.lr=1 and turn d_coef"),
        (["optimizer=dadapt_adam", "optimizer.lr=0.1"], "keep optimizer.lr=1 and turn d0"),
        (["optimizer=schedule_free_adamw", "scheduler=cosine"], "scheduler=constant is meant"),
        (["optimizer=prodigy", "regularization=scale_norm"], "behind prodigy's back"),
        (["captions.decouple=0.5"], "those captions only lose the trigger"),
        (["optimizer=schedule_free_adamw", "regularization=scale_norm"], "average may exceed"),
        (
            ["optimizer=prodigy", "optimizer.safeguard_warmup=false", "scheduler=cosine_with_restarts"],
            "wants optimizer.safeguard_warmup=true",
        ),
    ],
)
def test_what_is_worth_knowing_is_said(recipe_of: MakeRecipe, photos: Path, overrides: list[str], warning: str) -> None:
    plan = make_plan(recipe_of(f"dataset.path={photos}", "dataset.repeats=1", *overrides))

    assert any(warning in text for text in plan.warnings), plan.warnings


def test_captions_are_planned_cleaned_and_pruned_and_the_files_stay(recipe_of: MakeRecipe, photos: Path) -> None:
    before = {file: file.read_bytes() for file in photos.rglob("*.txt")}
    plan = make_plan(
        recipe_of(
            f"dataset.path={photos}",
            "captions=absorbed",
            "captions.prune=[hat, coat, misspelt]",
            "captions.clean.replacements={1girl: Girl}",
        )
    )
    assert {image.caption for image in plan.images} == {f"zkw, girl, tag{number}" for number in range(6)}
    assert "coat" not in plan.tag_exposures and plan.tag_exposures["girl"] == plan.tag_exposures["zkw"]
    assert "captions: 'misspelt' is to be pruned or replaced, but is in no caption" in plan.warnings
    assert before == {file: file.read_bytes() for file in photos.rglob("*.txt")}


def test_decoupling_takes_its_share_of_every_concept_off_the_trigger(recipe_of: MakeRecipe) -> None:
    given = [
        "dataset.dollhouse.outfits=2",
        "dataset.dollhouse.captions=full",
        "train.max_steps=null",
        "train.epochs=4",
    ]
    joint, apart = (make_plan(recipe_of(*given, f"captions={way}")) for way in ("absorbed", "decoupled"))

    for outfit in ("outfit1", "outfit2"):
        assert apart.tag_exposures[outfit] == joint.tag_exposures[outfit] > 0
        members = [image for image in apart.train_images() if outfit in image.concept]
        lost = [image for image in members if "zkw" not in image.caption]
        assert len(lost) == round(len(members) / 2)
        assert all("hair" in image.caption and "eyes" in image.caption for image in lost)
    assert all("hair" not in image.caption for image in joint.images)
    assert all(image.caption.startswith("zkw") for image in apart.held_out_images())
    assert apart.tag_exposures["zkw"] == pytest.approx(joint.tag_exposures["zkw"] / 2, rel=0.1)
    assert any("captions.decouple=0.5 would train it" in warning for warning in joint.warnings)
    seeded = make_plan(recipe_of(*given, "captions=decoupled", "seed=5"))
    assert seeded.images == apart.images  # trials differ in their seed, not in what they are taught


PART_OF_AN_EPOCH = ("train.max_steps=13", "dataset.dollhouse.outfits=3", "dataset.dollhouse.images=17")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_plan_of_another_seed_is_what_planning_it_gives(recipe_of: MakeRecipe, seed: int) -> None:
    recipe = recipe_of(*PART_OF_AN_EPOCH, "seed=7")
    first = make_plan(recipe)
    seeded, plan = for_seed(recipe, first, seed)
    anew = make_plan(recipe_of(*PART_OF_AN_EPOCH, f"seed={seed}"))
    assert seeded.seed == seed and dataclasses.replace(plan, warnings=()) == dataclasses.replace(anew, warnings=())
    assert plan.fingerprint != first.fingerprint and plan.exposures != first.exposures


def test_the_plan_of_a_sweep_is_that_of_its_first_seed(
    recipe_of: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = "".join(f"    {word.replace('=', ': ')}\n" for word in PART_OF_AN_EPOCH)
    sweep = f"sweep:\n  question: q?\n  seeds: [2, 0]\n  recipe:\n{typed}  arms: {{a: {{adapter.dim: 4}}}}\n"
    (tmp_path / "seeded.yaml").write_text(sweep)
    assert main(["plan", str(tmp_path / "seeded.yaml"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["budget"]
    assert main(["plan", *PART_OF_AN_EPOCH, "adapter.dim=4", "seed=2", "--json"]) == 0
    assert told == json.loads(capsys.readouterr().out)["budget"]


def test_counting_needs_no_recipe() -> None:
    image = PlannedImage(
        file="a.png",
        sha256="",
        concept="",
        caption="a, b, a",
        split="train",
        repeats=3,
        width_px=64,
        height_px=64,
        bucket=Bucket(width_px=64, height_px=64),
        resize_px=(64, 64),
        crop_px=(0, 0),
    )

    counted = budget.count([image], TrainOptions(epochs=2, batch_size=2), seed=0)

    assert (counted.batches_per_epoch, counted.steps, counted.by_image) == (2, 4, (6,))
