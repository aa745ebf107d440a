"""What every metric promises, for each file of conf/metrics/ or those that `CHOICES` names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import lorasweep
from lorasweep.config import compose_recipe
from lorasweep.core.protocols import Metric
from lorasweep.plan import make_plan
from lorasweep.testing import Choice, load, loads_torch
from lorasweep.testing import pytest_generate_tests as pytest_generate_tests

SMALL = (
    *("train.max_steps=2", "train.rungs=1", "sample.steps=2", "sample.seeds=[0]", "sample.weights=[0.7]"),
    *("dataset.dollhouse.images=8", "tracking=none"),
)


@pytest.fixture
def module(metrics_choice: Choice) -> Any:
    """The module."""
    return load("metrics", metrics_choice)


def test_it_is_built_from_its_knobs(module: Any, metrics_choice: Choice) -> None:
    metric: Metric = module.build(**metrics_choice[1])
    assert callable(metric.measure) and isinstance(module.NEEDS_PICTURES, bool)


def test_planning_it_needs_no_torch(metrics_choice: Choice) -> None:
    assert not loads_torch(f"registry.load('metrics', {metrics_choice[0]!r})")


def test_what_it_names_is_what_it_measures(
    module: Any, metrics_choice: Choice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps on the embedded base: every number that was named is there, or a reason why not."""
    monkeypatch.setenv("LORASWEEP_HOME", str(tmp_path))
    recipe = compose_recipe([*SMALL, f"metrics=[{metrics_choice[0]}]"])
    named = module.names(recipe, make_plan(recipe))
    assert named and all(name.startswith(f"{metrics_choice[0]}/") for name in named)
    run = lorasweep.run_trial(recipe, quiet=True)
    assert {name for name, why in named.items() if not why} <= run.metrics.keys() | run.missing.keys()
    assert all(math.isfinite(run.metrics[name]) for name in named.keys() & run.metrics.keys())
