"""What a bucket set does to a dataset, against numbers worked out by hand and kohya's own definition."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from lorasweep import api
from lorasweep.cli.plan_view.tables import print_plan
from lorasweep.core.records import Recipe
from lorasweep.plan import make_plan

MakeRecipe = Callable[..., Recipe]
SIZES = ((64, 64), (128, 128), (60, 90), (96, 64), (32, 32))  # px, width x height; the dollhouse's side is 64


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    root = tmp_path / "3_zkw"
    root.mkdir()
    for number, size in enumerate(SIZES):
        Image.effect_noise(size, 90).save(root / f"{number}.png")
        (root / f"{number}.txt").write_text("zkw")
    return root


def described(recipe: Recipe) -> dict[str, Any]:
    found: dict[str, Any] = api.plan(recipe).to_json()["bucket_set"]
    return found


def test_one_square(recipe_of: MakeRecipe, odd: Path) -> None:
    found = described(recipe_of(f"dataset.path={odd}", "dataset.holdout=0", "buckets=single"))
    errors = [0, 0, abs(1 - 60 / 90), abs(1 - 96 / 64), 0]
    assert found["offered"] == found["used"] == 1
    assert found["aspect_error"] == {"mean": round(sum(errors) / 5, 4), "max": 0.5}
    # 60 x 90 becomes 64 x 96, 96 x 64 stays: both lose 32 of 96 rows or columns
    assert found["cropped_share"] == {"mean": round(2 / 3 / 5, 4), "max": round(1 / 3, 4)}
    assert found["enlargement"] == {
        "least": 0.5,
        "mean": round((1 + 0.5 + 64 / 60 + 1 + 2) / 5, 3),
        "most": 2.0,
    }
    assert found["enlarged"] == 2


def test_many_shapes_leave_batches_short(recipe_of: MakeRecipe, odd: Path) -> None:
    given = [f"dataset.path={odd}", "dataset.holdout=0", "train.batch_size=4"]
    for buckets in ("single", "five", "kohya", "all_under_area", "kohya_no_upscale"):
        recipe = recipe_of(*given, f"buckets={buckets}")
        plan, found = make_plan(recipe), described(recipe)
        assert found["epoch"]["batches"] == plan.batches_per_epoch
        assert found["epoch"]["steps"] == plan.steps_per_epoch
        assert found["epoch"]["batches_if_shared"] == 4  # 5 images, 3 repeats, 4 in a batch
        assert found["used"] == len({image.bucket for image in plan.images})
    assert found["offered"] is None and found["enlarged"] == 0 and found["enlargement"]["most"] <= 1
    assert found["used"] > 2 and found["epoch"]["batches"] > 4
    assert found["epoch"]["images_per_batch"] == round(15 / found["epoch"]["batches"], 3)
    accumulated = described(recipe_of(*given, "buckets=kohya_no_upscale", "train.gradient_accumulation=3"))
    assert accumulated["epoch"]["steps"] == -(-found["epoch"]["batches"] // 3)


def test_the_table_has_a_line_per_set(recipe_of: MakeRecipe, odd: Path) -> None:
    stream = io.StringIO()
    print_plan(api.plan(recipe_of(f"dataset.path={odd}", "buckets=kohya_no_upscale")), Console(file=stream, width=80))
    table = stream.getvalue().partition("bucket sets")[2]
    assert "of any" in table and "aspect error" in table
    assert "│ recipe │" in table


def test_three_outfits_train_the_character_three_times(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    """The article's example: equal outfits of one character, and what decoupling half of each changes."""
    for outfit in range(3):
        folder = tmp_path / "dolls" / f"2_zkw outfit{outfit}"
        folder.mkdir(parents=True)
        for number in range(4):
            Image.effect_noise((64, 64), 90).save(folder / f"{outfit}{number}.png")
            (folder / f"{outfit}{number}.txt").write_text(f"zkw, outfit{outfit}, red hair")
    given = [
        f"dataset.path={tmp_path / 'dolls'}",
        "dataset.holdout=0",
        "train.epochs=5",
        "train.max_steps=null",
    ]
    data = api.plan(recipe_of(*given)).to_json()
    assert {row["exposures"] for row in data["budget"]["concepts"].values()} == {40}
    assert {row["per_image"] for row in data["budget"]["concepts"].values()} == {10}
    assert {row["steps_per_epoch"] for row in data["budget"]["concepts"].values()} == {2}
    shared = {row["tag"]: row for row in data["budget"]["shared_tags"]}
    assert shared.keys() == {"zkw", "red hair"}
    assert (shared["zkw"]["times"], shared["zkw"]["largest"], shared["zkw"]["ratio"]) == (120, 40, 3.0)
    (warning,) = [text for text in data["warnings"] if "share the trigger" in text]
    assert "3.0 x" in warning and "about 60 times" in warning and "overcook" in warning
    for share, times in shared["zkw"]["decoupled"].items():
        decoupled = api.plan(recipe_of(*given, f"captions.decouple={share}", "captions.prune=[red hair]")).to_json()
        assert decoupled["tag_exposures"]["zkw"] == times  # 4 images each: the shares are whole images
        assert decoupled["exposures"] == data["exposures"]
    assert not any("decouple" in text for text in decoupled["warnings"])


def test_photos_of_many_shapes_tell_the_sets_apart(recipe_of: MakeRecipe) -> None:
    """The dollhouse has buckets for sizes; a camera roll has not, and small buckets get images by shape."""
    used = {}
    for buckets in ("single", "four", "five", "kohya", "all_under_area"):
        recipe = recipe_of("dataset.dollhouse.shapes=photos", f"buckets={buckets}")
        used[buckets] = described(recipe)
    assert [used[name]["used"] for name in used] == sorted(used[name]["used"] for name in used)
    assert used["four"]["used"] == 4 and used["kohya"]["used"] > 5
    errors = [used[name]["aspect_error"]["mean"] for name in used]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 4
    assert used["all_under_area"]["enlargement"]["mean"] < 0.8 < 0.9 < used["kohya"]["enlargement"]["mean"]
    assert used["kohya"]["epoch"]["steps"] > used["single"]["epoch"]["steps"]
