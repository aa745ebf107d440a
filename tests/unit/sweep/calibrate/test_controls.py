"""The controls that are declared, and recipes that cannot be calibrated for."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from lorasweep import config
from lorasweep.components.adapters import loha, lora
from lorasweep.config import places
from lorasweep.core import registry
from lorasweep.core.errors import AdapterError, ConfigError, LorasweepError
from lorasweep.core.records import Recipe
from lorasweep.sweep.calibrate import negative_controls
from lorasweep.sweep.calibrate.controls import ControlOptions, sweep_of_controls
from lorasweep.trial.resources import TrialResources

FEW = ControlOptions(times=6, rungs=5, seeds=(0, 1))


def test_one_control_is_trained_too_long_and_one_too_hot() -> None:
    spec = sweep_of_controls(["optimizer.lr=2e-3", "adapter.dim=8"], name="c", steps=100, held_out=4, options=FEW)
    long, hot = (arm.recipe for arm in spec.arms)
    assert [arm.name for arm in spec.arms] == ["long", "hot"] and spec.seeds == (0, 1)
    assert (long.train.max_steps, hot.train.max_steps) == (600, 200)
    assert hot.optimizer.options["lr"] == pytest.approx(3 * long.optimizer.options["lr"])
    for recipe in (long, hot):
        assert recipe.train.keep == "last" and recipe.train.rungs == 5
        assert recipe.scheduler.name == "constant" and recipe.adapter.options["dim"] == 8


def test_every_rung_of_a_control_has_a_step_of_its_own() -> None:
    spec = sweep_of_controls([], name="c", steps=1, held_out=4, options=ControlOptions(times=2))
    assert [arm.recipe.train.max_steps for arm in spec.arms] == [12, 12]


def test_a_recipe_that_cannot_be_judged_is_refused_with_every_reason() -> None:
    words = ["dataset.holdout=0", "~metrics.generalisation"]
    with pytest.raises(ConfigError) as refused:
        sweep_of_controls(words, name="c", steps=100, held_out=0, options=FEW)
    assert {problem.where for problem in refused.value.problems} == {"dataset.holdout", "metrics"}


def _trains(choice: str) -> bool:
    module = registry.load("adapter", places.read_choice("adapter", choice)["name"])
    return getattr(module, "TRAINS", True)


KINDS = [choice for choice in places.choices("adapter") if _trains(choice)]


@pytest.fixture(scope="module")
def resources() -> TrialResources:
    return TrialResources()


def _recipe(base: Path, *words: str) -> Recipe:
    return config.compose_recipe(["base=stable_diffusion", f"base.path={base}", "train.device=cpu", *words])


@pytest.mark.parametrize("kind", KINDS)
def test_random_controls_of_every_kind_are_as_large_as_the_healthy_file(
    home: Path, tiny_sd: Path, resources: TrialResources, kind: str
) -> None:
    recipe = _recipe(tiny_sd, f"adapter={kind}", "adapter.text_encoder=true")
    build = registry.load("adapter", recipe.adapter.name).build
    base = resources.base(recipe)
    healthy = build(base, seed=0, **recipe.adapter.options)
    generator = torch.Generator().manual_seed(0)
    for _, parameter in healthy.named_parameters():
        parameter.data += 0.5 * torch.randn(parameter.shape, generator=generator)
    wanted, learned = _changes(healthy)
    healthy.save(home / "adapter.safetensors")
    healthy.remove()

    adapter = build(base, seed=0, **recipe.adapter.options)
    seen = []
    for control, number in negative_controls._ready(adapter, recipe, home / "adapter.safetensors"):
        found, change = _changes(adapter)
        seen.append(change)
        if control == "base":
            assert max(found.values()) < 1e-4, "a fresh adapter changes nothing"
        else:
            assert min(found.values()) > 0 and found == pytest.approx(wanted, rel=0.01), number
    assert len(seen) == 1 + negative_controls.RANDOM
    for one, other in itertools.combinations([*seen[1:], learned], 2):
        alike = torch.nn.functional.cosine_similarity(one, other, dim=0)
        assert abs(alike) < 0.5, "nothing of what was learned is left, nor of another random one"
    adapter.remove()


def _changes(adapter: Any) -> tuple[dict[str, float], torch.Tensor]:
    """Size of the change of every module, and all of it end to end."""
    found = {module: adapter.delta(layer).detach() for module, layer in adapter.layers.items()}
    sizes = {module: float(change.norm()) for module, change in found.items()}
    return sizes, torch.cat([change.flatten() for change in found.values()])


def test_a_healthy_file_of_another_kind_is_refused(home: Path, tiny_sd: Path, resources: TrialResources) -> None:
    recipes = {kind: _recipe(tiny_sd, f"adapter={kind}") for kind in ("lora", "loha")}
    base = resources.base(recipes["lora"])
    made = loha.build(base, seed=0, **recipes["loha"].adapter.options)
    made.save(home / "adapter.safetensors")
    made.remove()
    adapter = lora.build(base, seed=0, **recipes["lora"].adapter.options)
    with pytest.raises(AdapterError, match="does not fit"):
        list(negative_controls._ready(adapter, recipes["lora"], home / "adapter.safetensors"))
    adapter.remove()


def test_a_healthy_file_that_changes_nothing_is_refused(home: Path, tiny_sd: Path, resources: TrialResources) -> None:
    recipe = _recipe(tiny_sd)
    adapter = lora.build(resources.base(recipe), seed=0, **recipe.adapter.options)
    adapter.save(home / "adapter.safetensors")
    with pytest.raises(LorasweepError, match="has size 0"):
        list(negative_controls._ready(adapter, recipe, home / "adapter.safetensors"))
    adapter.remove()
