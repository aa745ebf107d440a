"""What every adapter promises, for each file of conf/adapter/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapter_formulas import FORMULAS, merge
from effective_weight import effective_weight
from fresh_bases import fresh
from tiny_training import make_recipe

from lorasweep.core.protocols import Adapter, Base
from lorasweep.core.records import Component
from lorasweep.plan.trainable import Trainable, trainable
from lorasweep.testing.adapters import *  # noqa: F403
from lorasweep.testing.adapters import EITHER_WAY, look, train


@pytest.fixture
def base(tiny_sd: Path) -> Base:
    """The tiny base, freshly loaded: not the dollhouse, which the suite brings."""
    return fresh(make_recipe(tiny_sd).base)


def test_merged_by_the_published_formula_equals_unmerged(
    adapter: Adapter,
    base: Base,
    tiny_sd: Path,
    knobs: dict[str, Any],
    adapter_choice: tuple[str, dict[str, Any]],
) -> None:
    name = adapter_choice[0]
    assert name in FORMULAS, f"write down what {name} adds to a weight in tests/contracts/formulas.py"
    train(adapter, base)
    state = adapter.state_dict()
    for weight in (0.3, 0.7, 1.0):
        adapter.set_weight(weight)
        plain = fresh(make_recipe(tiny_sd).base)
        with torch.no_grad():
            unmerged, untouched = look(base), look(plain)
            for part in adapter.parameters():
                assert merge(plain.parts[part], part, state, name=name, knobs=knobs, weight=weight) > 0
            moved = (unmerged - untouched).abs().max()
            assert moved > 1e-3
            assert (look(plain) - unmerged).abs().max() < 1e-4 * max(1.0, moved.item())


def test_what_a_layer_says_it_adds_is_what_it_adds(adapter: Any, base: Base) -> None:
    train(adapter, base)
    for weight in (0.7, 1.0):
        adapter.set_weight(weight)
        for name, layer in adapter.layers.items():
            own = layer.get_base_layer().weight
            with torch.no_grad():
                added = effective_weight(layer).view_as(own) - own
                said = weight * adapter.delta(layer)
            assert said.norm() > 0, name
            assert (added - said).abs().max() < 1e-5 * max(1.0, own.abs().max().item()), name


@EITHER_WAY
def test_the_plan_counts_what_trains(
    adapter: Adapter, adapter_choice: tuple[str, dict[str, Any]], knobs: dict[str, Any], tiny_sd: Path
) -> None:
    """From the headers of the base's files alone."""
    counted = trainable(make_recipe(tiny_sd, adapter=Component(name=adapter_choice[0], options=knobs)))
    sizes = [parameter.numel() for part in adapter.parameters().values() for parameter in part]
    assert counted == Trainable(tensors=len(sizes), parameters=sum(sizes)) and len(sizes) > 10
