"""What a plan says of time and disk, against counts by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lorasweep import api
from lorasweep.cli import main
from lorasweep.core.records import Plan, Recipe
from lorasweep.plan import cost, make_plan
from lorasweep.plan.cost import (
    ASSUMED,
    FP32_BYTES,
    PNG_BYTES_PER_PX,
    RUNG_RECORDS_BYTES,
    START_S,
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
    assert caches([(plan, recipe)])["latents"] == len(plan.images) + len(plan.reg_images)
    pixels = sum(image.width_px * image.height_px for image in plan.reg_images) * 10 * 2
    assert pixels > 0
    assert class_images_seconds([(plan, recipe)] * 3) == pytest.approx(pixels / ASSUMED["draw"])
    cost.remember(recipe.base, 2 * ASSUMED["draw"], work="draw_one")
    assert class_images_seconds([(plan, recipe)]) == pytest.approx(pixels / ASSUMED["draw"] / 2, rel=1e-4)

    assert sweep_seconds([10.0], workers=2, trials=4, once_s=6.0) == START_S + (4 * 10 + 6) / 2
    assert sweep_seconds([10.0], workers=9, trials=4) == START_S + 10  # more workers than trials would idle

    for image in plan.reg_images:
        Path(image.file).parent.mkdir(parents=True, exist_ok=True)
        Path(image.file).touch()
    assert class_images_seconds([(plan, recipe)]) == 0


def test_judging_and_drawing_count_as_they_were_measured(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of("train.rungs=2", "sample.weights=[0.7]", "sample.seeds=[0]", "sample.rung_seeds=[0]")
    plan = make_plan(recipe)
    count = 2 * sum(map(len, plan.prompts.values()))
    before = seconds(plan, recipe)
    cost.remember(recipe.base, 0.5, work="judge")
    assert seconds(plan, recipe) - before == pytest.approx(count / 0.5 - count / ASSUMED["judge"])

    denoised = cost.denoised_pixels(count * recipe.base.resolution**2, recipe.sample)
    before = seconds(plan, recipe)
    cost.remember(recipe.base, ASSUMED["draw"] / 2, work="draw")  # half as fast as was assumed
    assert seconds(plan, recipe) - before == pytest.approx(denoised / ASSUMED["draw"], rel=1e-4)


def seconds(plan: Plan, recipe: Recipe) -> float:
    found = trial_seconds(plan, recipe)
    assert found is not None
    return found


def test_nobody_knows_how_long_a_base_takes_that_never_ran_here(
    home: Path, tiny_sd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["base=stable_diffusion", f"base.path={tiny_sd}", "base.resolution=64", "train.max_steps=2"]
    assert api.plan(*words).seconds is None
    assert main(["plan", *words]) == 0
    assert "how long they take is known once" in " ".join(capsys.readouterr().out.split())

    cost.remember(api.compose(words).base, 1000.0)
    assert api.plan(*words).seconds is not None
    assert main(["plan", *words]) == 0
    assert ", as timed here" in " ".join(capsys.readouterr().out.split())


def test_a_card_has_one_worker_however_many_cores_there_are(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr("lorasweep.sweep.workers.pool.cpu_cores", lambda: 16)
    planned = api.plan("quickstart")
    alone = [trial_seconds(plan, planned.recipes[arm]) for arm, plan in planned.plans.items()]
    assert planned.workers == 1 and planned.seconds == pytest.approx(START_S + sum(filter(None, alone)))


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
