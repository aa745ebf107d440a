"""`lorasweep plan` of a search: how many trials, how many steps, how long, what is encoded once."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from lorasweep import api
from lorasweep.cli.plan_view.tables import print_plan
from lorasweep.config import load_sweep
from lorasweep.plan.cost import START_S

SWEEP = """
sweep:
  question: Which?
  metric: {name: overcook/utility}
  total: 9
  seeds: [0, 1]
  recipe: {train.max_steps: 80, train.rungs: 4, launcher.workers: 2}
  arms:
    known: {optimizer.lr: 2e-3}
    outside: {optimizer: lion}
  space:
    optimizer: choice(adamw,prodigy)
    when:
      optimizer=adamw: {optimizer.lr: "interval(1e-3,1e-2)"}
"""


@pytest.fixture
def file(tmp_path: Path, home: Path) -> str:
    path = tmp_path / "which.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    return str(path)


def test_a_search_is_planned_by_its_corners(file: str) -> None:
    data = api.plan(load_sweep(file)).to_json()

    assert json.loads(json.dumps(data)) == data
    assert data["trials"] == 9
    space = data["space"]
    assert space["axes"] == {
        "optimizer": "choice(adamw,prodigy)",
        "optimizer.lr[adamw]": "interval(0.001,0.01)",
    }
    assert space["known_recipes"] == {"arms": 2, "in_the_space": 1}
    assert space["points"] == 3  # (9 - 2 arms x 2 seeds) / 2 seeds, the last one with one seed
    assert space["steps"] == {"per_trial": [80, 80], "total": [720, 720]}
    assert space["recipes_checked"] == 3
    assert [arm["name"] for arm in data["arms"]] == [
        "known",
        "outside",
        "corner00-adamw-lr0.001",
        "corner01-prodigy",
        "corner02-adamw-lr0.01",
    ]
    each = data["arms"][0]["estimated_seconds"]
    assert data["estimated_seconds"] == pytest.approx(START_S + each * 9 / 2, rel=0.02)
    assert space["estimated_seconds_range"] == pytest.approx([data["estimated_seconds"]] * 2, rel=0.02)
    assert space["caches"]["latents"] == len(data["images"])


def test_with_a_pruner_the_least_is_every_trial_to_its_first_rung(file: str) -> None:
    space = api.plan(load_sweep(file, ["sweep.pruner=median"])).to_json()["space"]

    assert space["steps"]["total"] == [180, 720]
    low, high = space["estimated_seconds_range"]
    assert low - START_S == pytest.approx((high - START_S) / 4, rel=0.02)


def test_it_is_printed_with_its_branches(file: str) -> None:
    console = Console(file=io.StringIO(), width=120)

    print_plan(api.plan(load_sweep(file, ["sweep.pruner=median"])), console)

    text = " ".join(console.file.getvalue().split())
    assert "optimizer.lr[adamw]" in text and "interval(0.001,0.01)" in text
    assert "by tpe, median stops" in text
    assert "3 points x 2 seed(s)" in text
    assert "180 to 720 steps in all" in text
