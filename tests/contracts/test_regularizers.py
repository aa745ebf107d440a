"""What every regularizer promises, for each file of conf/regularization/."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import shipped

from lorasweep.cli.plan_view.tables import plan_json
from lorasweep.components.adapters import lora
from lorasweep.config import compose_recipe
from lorasweep.core import registry
from lorasweep.core.protocols import Base, Brake, ImageSource
from lorasweep.plan import make_plan

Choice = tuple[str, dict[str, Any]]
# A trigger of two words, for those who take it apart.
TWO_WORDS = "captions.trigger=green beach"


def test_it_is_a_brake_or_brings_images(regularization_choice: Choice) -> None:
    name, knobs = regularization_choice
    made = registry.load("regularization", name).build(**knobs)
    assert isinstance(made, Brake) != isinstance(made, ImageSource)


def test_building_it_needs_no_torch(regularization_choice: Choice) -> None:
    name, knobs = regularization_choice
    code = (
        f"import sys, lorasweep.components.regularizers.{name} as module\n"
        f"module.build(**{knobs!r})\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_a_brake_acts_on_an_adapter_and_logs_finite_numbers(regularization_choice: Choice, base: Base) -> None:
    name, knobs = regularization_choice
    made = registry.load("regularization", name).build(**knobs)
    if not isinstance(made, Brake):
        pytest.skip("acts on images, not on weights")
    adapter = shipped.build(lora, base, seed=0, dim=2)
    found = made.after_step(adapter)
    json.dumps(found, allow_nan=False)
    assert found and all(isinstance(value, float) for value in found.values())
    adapter.remove()


def test_its_images_keep_up_with_the_dataset_and_are_counted_apart(
    regularization_choice: Choice, home: Path, tiny_sd: Path
) -> None:
    name, knobs = regularization_choice
    shared = [f"base.path={tiny_sd}", TWO_WORDS, "train.epochs=2"]
    plain = make_plan(compose_recipe(shared))
    recipe = compose_recipe([*shared, f"regularization={name}"])
    plan = make_plan(recipe)

    assert recipe.regularization == {name: knobs}
    assert plan.images == plain.images and plan.exposures == plain.exposures
    assert plan.tag_exposures == plain.tag_exposures
    made = registry.load("regularization", name).build(**knobs)
    if isinstance(made, ImageSource):
        assert {image.concept for image in plan.reg_images} == {name} == set(plan.reg_exposures)
        assert {image.split for image in plan.reg_images} == {"regularization"}
        assert plan.reg_exposures[name] == round(made.share * sum(plan.exposures.values()))
        assert plan.steps == 2 * plain.steps
    else:
        assert plan.reg_images == () and plan.steps == plain.steps
    (shown,) = plan_json(recipe)["regularization"]["regularizers"]
    assert shown["name"] == name and shown["knobs"] == knobs
