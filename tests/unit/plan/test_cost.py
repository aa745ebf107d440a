"""What a plan says of time and disk, against counts by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from lorasweep import api
from lorasweep.core.records import Recipe
from lorasweep.plan import cost, make_plan
from lorasweep.plan.cost import (
    DEFAULT_PIXELS_PER_S,
    FP32_BYTES,
    PNG_BYTES_PER_PX,
    RUNG_RECORDS_BYTES,
    caches,
    class_images_seconds,
    sweep_seconds,
    trial_disk,
    trial_seconds,
)
from lorasweep.plan.trainable import trainable

MakeRecipe = Callable[..., Recipe]
DRAWN = ["captions.trigger=red hat", "regularization=anti_bleed", "regularization.anti_bleed.images=2"]


def test_a_rung_more_is_an_adapter_more_and_its_pictures(recipe_of: MakeRecipe) -> None:
    def disk(rungs: int) -> int:
        recipe = recipe_of(f"train.rungs={rungs}", "sample.rung_seeds=[0]")
        found = trial_disk(make_plan(recipe), recipe)
        assert found is not None
        return found.run_folder

    recipe = recipe_of("sample.rung_seeds=[0]")
    adapter = trainable(recipe)
    assert adapter is not None
    prompts = sum(map(len, make_plan(recipe).prompts.values()))
    png = round(prompts * recipe.base.resolution**2 * PNG_BYTES_PER_PX)
    more = adapter.parameters * FP32_BYTES + png + RUNG_RECORDS_BYTES
    assert disk(3) - disk(2) == pytest.approx(more, abs=2)


def test_a_copy_in_mlflow_counts_where_there_is_one(recipe_of: MakeRecipe) -> None:
    with_copy = api.plan(recipe_of("tracking=mlflow")).to_json()["estimated_bytes"]
    without = api.plan(recipe_of("tracking=none")).to_json()["estimated_bytes"]
    assert with_copy["run_folders"] == without["run_folders"] > without["mlflow"] == 0 < with_copy["mlflow"]


def test_what_is_encoded_once_is_counted_once(recipe_of: MakeRecipe, photos: Path) -> None:
    recipe = recipe_of(f"dataset.path={photos}")
    plan = make_plan(recipe)
    assert caches([(plan, recipe)]) == caches([(plan, recipe)] * 3)
    assert caches([(plan, recipe)])["latents"] == len(plan.images) == 10
    other = recipe_of(f"dataset.path={photos}", "buckets=four")
    assert caches([(plan, recipe), (make_plan(other), other)])["latents"] > 10


def test_class_images_cost_time_until_they_are_there(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of(*DRAWN, "sample.steps=10", "sample.guidance=4")
    plan = make_plan(recipe)
    pixels = sum(image.width_px * image.height_px for image in plan.reg_images) * 10 * 2
    assert pixels > 0
    forwards_per_s = DEFAULT_PIXELS_PER_S / cost.FORWARD_SHARE
    assert class_images_seconds([(plan, recipe)] * 3) == pytest.approx(pixels / forwards_per_s)
    cost.remember(recipe.base, 2 * forwards_per_s, work="draw_one")
    assert class_images_seconds([(plan, recipe)]) == pytest.approx(pixels / forwards_per_s / 2, rel=1e-4)

    without = dataclasses.replace(recipe.launcher, workers=2)
    assert sweep_seconds([10.0], without, trials=4, once_s=6.0) == sweep_seconds([10.0], without, trials=4) + 3

    for image in plan.reg_images:
        Path(image.file).parent.mkdir(parents=True, exist_ok=True)
        Path(image.file).touch()
    assert class_images_seconds([(plan, recipe)]) == 0


def test_judging_and_drawing_count_as_they_were_measured(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of("train.rungs=2", "sample.weights=[0.7]", "sample.seeds=[0]", "sample.rung_seeds=[0]")
    plan = make_plan(recipe)
    count = 2 * sum(map(len, plan.prompts.values()))
    before = trial_seconds(plan, recipe)
    cost.remember(recipe.base, 0.5, work="judge")
    assert trial_seconds(plan, recipe) - before == pytest.approx(count / 0.5)

    denoised = cost.denoised_pixels(count * recipe.base.resolution**2, recipe.sample)
    assumed = DEFAULT_PIXELS_PER_S / cost.FORWARD_SHARE
    cost.remember(recipe.base, assumed / 2, work="draw")  # half as fast as was assumed
    assert trial_seconds(plan, recipe) - before == pytest.approx(count / 0.5 + denoised / assumed, rel=1e-4)


def test_only_what_took_long_enough_is_remembered(recipe_of: MakeRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    base = recipe_of().base
    clock = iter([0.0, 0.1, 10.0, 14.0])
    monkeypatch.setattr(cost.time, "perf_counter", lambda: next(clock))
    with cost.measured(base, "judge", 8):
        pass
    assert cost.recall(base, "judge") is None
    with cost.measured(base, "judge", 8):
        pass
    assert (cost.recall(base, "judge"), cost.recall(base)) == (2.0, None)
