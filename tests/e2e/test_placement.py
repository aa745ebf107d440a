"""A whole recipe on a pretended GPU: plan, train, sample, every metric, verdict.

pytest -m slow tests/e2e/test_placement.py
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from pretend_cuda import OnCuda, pretend_cuda

from lorasweep.config import compose_recipe
from lorasweep.core.records import Status
from lorasweep.plan import make_plan
from lorasweep.trial import run
from lorasweep.trial.resources import TrialResources

OVERRIDES = (
    "train.max_steps=4",
    "train.rungs=2",
    "train.device=cpu",  # until it is composed: there is no GPU to ask for
    "dataset.dollhouse.images=8",
    "sample.steps=2",
    "sample.seeds=[0]",
)


@pytest.mark.slow
def test_a_recipe_is_cooked_and_judged(home: Path) -> None:
    recipe = compose_recipe(list(OVERRIDES))
    plan = make_plan(recipe)
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, device="cuda"))
    resources = TrialResources()
    with pretend_cuda():
        assert isinstance(resources.base(recipe).unet.conv_in.weight, OnCuda)
        outcome = run.cook(recipe, plan, home / "run", resources, report=lambda event: True, should_stop=lambda: False)
    assert outcome.status is Status.COMPLETED and "overcook/score" in outcome.metrics
