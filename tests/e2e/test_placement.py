"""A whole recipe on a pretended GPU: plan, train, sample, every metric, verdict.

pytest -m "slow or not slow" tests/e2e/test_placement.py
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pytest
from pretend_cuda import OnCuda, pretend_cuda
from tiny_training import FEW_PICTURES

from lorasweep.config import compose_recipe
from lorasweep.core.records import Status
from lorasweep.plan import make_plan
from lorasweep.trial import run
from lorasweep.trial.judge import probe_builder, probes
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


FEW = probes.ProbeOptions(pairs=2, noises=1, prior_images=1, prior_steps=2)
METRICS = "generalisation,prior_drift,memorisation,diversity,burn,identity,prompt_control,norms,trigger_selectivity"


def test_a_device_without_float64_trains_draws_and_judges(
    home: Path, on_tiny_sd: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_builder, "build", functools.partial(probe_builder.build, options=FEW))
    words = [*FEW_PICTURES, "train.max_steps=2", "train.rungs=1", "train.batch_size=2", "train.device=cpu"]
    words += ["dataset.dollhouse.images=6", "sample.steps=1", "sample.seeds=[0]", "sample.sampler=dpmpp_2m"]
    recipe = compose_recipe([*on_tiny_sd, *words, "regularization=[scale_norm,ema]", f"metrics=[{METRICS}]"])
    plan = make_plan(recipe)
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, device="cuda"))
    with pretend_cuda(float64=False):
        run_of = functools.partial(run.cook, report=lambda event: True, should_stop=lambda: False)
        outcome = run_of(recipe, plan, home / "run", TrialResources())
    assert outcome.status is Status.COMPLETED
    assert {name.split("/")[0] for name in outcome.metrics} >= {"burn", "diversity", "generalisation", "norms"}
