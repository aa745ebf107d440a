"""Records survive JSON, and fingerprints change with what decides a result and with nothing else."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from lorasweep import config
from lorasweep.config import places
from lorasweep.core.findings import Finding
from lorasweep.core.records import Outcome, Plan, Recipe, Status, from_dict, to_dict
from lorasweep.plan import make_plan


def test_recipe_round_trip() -> None:
    recipe = config.compose_recipe(["seed=3", "dataset.repeats=2", "sample.weights=[0.5,1.0]"])
    assert from_dict(Recipe, json.loads(json.dumps(to_dict(recipe)))) == recipe


CHOICES = [
    f"{group}={choice}"
    for group in ("captions", "compute", "memory", "noise", "sample", "scheduler", "tracking", "train")
    for choice in places.choices(group)
]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_survives(choice: str) -> None:
    recipe = config.compose_recipe([choice])
    assert from_dict(Recipe, json.loads(json.dumps(to_dict(recipe)))) == recipe


def test_outcome_round_trip_keeps_the_status() -> None:
    outcome = Outcome(status=Status.DIVERGED, step=3, metrics={"a": 1.0}, missing={"b": "why"}, reason="nan")
    again = from_dict(Outcome, json.loads(json.dumps(to_dict(outcome))))
    assert again == outcome and again.status is Status.DIVERGED


@pytest.mark.parametrize(
    "change",
    [{"step": "3"}, {"step": None}, {"metrics": None}, {"status": "PAUSED"}, {"metrics": {"a": []}}, {"later": 1}],
)
def test_what_is_no_record_is_told_in_one_way(change: dict[str, Any]) -> None:
    written = to_dict(Outcome(status=Status.COMPLETED, step=3))
    for data in (written | change, None, [written], {}):
        with pytest.raises(ValueError):
            from_dict(Outcome, data)


def test_fingerprint_follows_what_decides_the_result() -> None:
    recipe = config.compose_recipe([])
    assert config.compose_recipe([]).fingerprint() == recipe.fingerprint()
    assert config.compose_recipe(["adapter.dim=8"]).fingerprint() != recipe.fingerprint()
    assert dataclasses.replace(recipe, seed=1).fingerprint() != recipe.fingerprint()


def test_fingerprint_ignores_where_it_runs_and_where_it_is_logged() -> None:
    recipe = config.compose_recipe([])
    elsewhere = config.compose_recipe(["tracking=none", "launcher.workers=3"])
    assert elsewhere.tracking != recipe.tracking
    assert elsewhere.fingerprint() == recipe.fingerprint()


def test_zero_is_a_seed() -> None:
    assert config.compose_recipe(["seed=0"]).seed == 0
    assert config.compose_recipe(["seed=0"]).fingerprint() != config.compose_recipe(["seed=1"]).fingerprint()


def test_a_finding_among_the_warnings_of_a_plan_reaches_a_worker_as_its_sentence() -> None:
    recipe = config.compose_recipe(["dataset.dollhouse.images=8"])
    plan = dataclasses.replace(make_plan(recipe), warnings=(Finding("cropped", level="should"),))
    assert from_dict(Plan, to_dict(plan)).warnings == ("cropped",)
