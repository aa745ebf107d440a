"""What every regularizer promises, for each file of conf/regularization/ or those that `CHOICES` names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lorasweep.config import compose_recipe
from lorasweep.core import registry
from lorasweep.core.protocols import Base, RegularizationImages, WeightAverage, WeightRegularizer
from lorasweep.plan import make_plan
from lorasweep.testing import Choice, load, loads_torch
from lorasweep.testing import base as base
from lorasweep.testing import pytest_generate_tests as pytest_generate_tests

# A trigger of two words, for those who take it apart.
TWO_WORDS = "captions.trigger=green beach"


@pytest.fixture
def made(regularization_choice: Choice) -> Any:
    """The regularizer."""
    return load("regularization", regularization_choice).build(**regularization_choice[1])


def test_it_is_a_brake_or_brings_images(made: Any) -> None:
    assert isinstance(made, WeightRegularizer) != isinstance(made, RegularizationImages)


def test_building_it_needs_no_torch(regularization_choice: Choice) -> None:
    name, knobs = regularization_choice
    assert not loads_torch(f"registry.load('regularization', {name!r}).build(**{knobs!r})")


def test_a_brake_acts_on_an_adapter_and_logs_finite_numbers(made: Any, base: Base, tmp_path: Path) -> None:
    if not isinstance(made, WeightRegularizer):
        pytest.skip("acts on images, not on weights")
    adapter = registry.load("adapter", "lora").build(base, seed=0, **compose_recipe(["adapter=lora"]).adapter.options)
    if isinstance(made, WeightAverage):
        made.start(adapter)
    found = made.after_step(adapter)
    json.dumps(found, allow_nan=False)
    assert found and all(isinstance(value, float) for value in found.values())
    if isinstance(made, WeightAverage):
        before = adapter.state_dict()
        with made.for_use(adapter):
            adapter.save(tmp_path / "used.safetensors")
        after = adapter.state_dict()
        assert all(after[name].equal(tensor) for name, tensor in before.items())
        kept = made.state_dict()
        made.load_state_dict(kept)
        assert all(made.state_dict()[name].equal(tensor) for name, tensor in kept.items())
    adapter.remove()


def test_its_images_keep_up_with_the_dataset_and_are_counted_apart(
    regularization_choice: Choice, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORASWEEP_HOME", str(tmp_path))
    name, knobs = regularization_choice
    shared = [TWO_WORDS, "train.epochs=2"]
    plain = make_plan(compose_recipe(shared))
    recipe = compose_recipe([*shared, f"regularization={name}"])
    plan = make_plan(recipe)

    assert recipe.regularization == {name: knobs}
    assert plan.images == plain.images and plan.exposures == plain.exposures
    assert plan.tag_exposures == plain.tag_exposures
    if isinstance(made, RegularizationImages):
        assert {image.concept for image in plan.reg_images} == {name} == set(plan.reg_exposures)
        assert {image.split for image in plan.reg_images} == {"regularization"}
        assert plan.reg_exposures[name] == round(made.share * sum(plan.exposures.values()))
        assert plan.steps == 2 * plain.steps
    else:
        assert plan.reg_images == () and plan.steps == plain.steps
