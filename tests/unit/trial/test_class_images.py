"""Class images: drawn once by the base, the same whoever draws them, shared between processes."""

from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from fresh_bases import fresh
from PIL import Image
from tiny_training import make_recipe

from lorasweep.config import compose_recipe
from lorasweep.core import paths
from lorasweep.core.protocols import Base
from lorasweep.core.records import Plan, Recipe
from lorasweep.data.images import load_planned
from lorasweep.plan import make_plan
from lorasweep.trial import class_images, sample


@pytest.fixture
def base(tiny_sd: Path) -> Base:
    return fresh(make_recipe(tiny_sd).base)


@pytest.fixture
def recipe(home: Path, tiny_sd: Path) -> Recipe:
    words = ["captions.trigger=red hat", "regularization=anti_bleed", "regularization.anti_bleed.images=2"]
    return compose_recipe([f"base.path={tiny_sd}", *words, "sample.steps=2"])


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Prompts in the order in which they are really drawn."""
    prompts: list[str] = []
    draw = sample.draw

    def counting(base: Any, adapter: Any, requests: Any, options: Any) -> Any:
        prompts.extend(request.prompt for request in requests)
        return draw(base, adapter, requests, options)

    monkeypatch.setattr(sample, "draw", counting)
    return prompts


def test_drawn_once_in_the_size_of_its_bucket_and_ready_to_train_on(
    base: Base, recipe: Recipe, counted: list[str]
) -> None:
    plan = make_plan(recipe)
    assert all(image.sha256 == "" for image in plan.reg_images)
    drawn = class_images.draw(base, recipe, plan)

    assert counted == ["red", "hat", "red", "hat"]
    for image in drawn.reg_images:
        content = Path(image.file).read_bytes()
        assert image.sha256 == hashlib.sha256(content).hexdigest()
        assert load_planned(image).size == (image.bucket.width_px, image.bucket.height_px)
        with Image.open(image.file) as picture:
            assert picture.text["prompt"] == image.caption  # type: ignore[attr-defined]
    assert len({image.sha256 for image in drawn.reg_images}) == 4
    assert drawn.fingerprint == plan.fingerprint == make_plan(recipe).fingerprint

    other = dataclasses.replace(recipe, seed=5)
    assert class_images.draw(base, other, make_plan(other)).reg_images == drawn.reg_images
    assert len(counted) == 4  # another trial draws nothing


def test_a_lost_picture_is_drawn_again_bit_for_bit(base: Base, recipe: Recipe, counted: list[str]) -> None:
    plan = make_plan(recipe)
    drawn = class_images.draw(base, recipe, plan)
    Path(drawn.reg_images[2].file).unlink()
    assert class_images.draw(base, recipe, plan) == drawn and len(counted) == 5
    shutil.rmtree(paths.cache() / "class_images")
    assert class_images.draw(base, recipe, plan) == drawn and len(counted) == 9


def test_a_plan_without_drawings_is_left_alone(base: Base, recipe: Recipe, counted: list[str]) -> None:
    plain = compose_recipe([f"base.path={recipe.base.path}"])
    plan = make_plan(plain)
    assert class_images.draw(base, plain, plan) == plan and counted == []


def _hold(folder: Path, ready: Any, release: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        ready.set()
        release.wait(60)


def test_what_another_process_is_drawing_is_left_to_it(
    base: Base, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one draws the first picture; meanwhile this one draws the rest, then finds it done."""
    plan = make_plan(recipe)
    first = Path(plan.reg_images[0].file)
    context = multiprocessing.get_context("fork")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(first.parent, ready, release), daemon=True)
    other.start()
    assert ready.wait(60)
    order: list[str] = []
    draw_one = class_images._draw_one

    def watching(base: Base, recipe: Recipe, image: Any) -> None:
        draw_one(base, recipe, image)
        order.append(image.file)
        if len(order) == 3:  # everything but the other's: it finishes now
            shutil.copy(image.file, first)
            release.set()

    monkeypatch.setattr(class_images, "_draw_one", watching)
    drawn: Plan = class_images.draw(base, recipe, plan)
    other.join(60)
    assert order == [image.file for image in plan.reg_images[1:]]
    assert drawn.reg_images[0].sha256 == drawn.reg_images[3].sha256
