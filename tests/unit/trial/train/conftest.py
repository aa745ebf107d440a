from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fresh_bases import fresh
from tiny_training import make_plan, make_recipe

from lorasweep.core.protocols import Base
from lorasweep.trial.cache import LatentCache, Store, TextCache
from lorasweep.trial.train.slot import Slot, make_slot

NewSlot = Callable[..., Slot]


@pytest.fixture
def base(tiny_sd: Path, request: pytest.FixtureRequest) -> Base:
    """The tiny base, freshly loaded; in single precision unless parametrized with another."""
    return fresh(make_recipe(tiny_sd).base, precision=getattr(request, "param", "fp32"))


@pytest.fixture
def new_slot(base: Base, tiny_sd: Path, tmp_path: Path) -> Iterator[NewSlot]:
    """Make slots on `base`; keyword arguments replace fields of the recipe."""
    store = Store(tmp_path / "cache")
    latents, texts = LatentCache(base, store), TextCache(base, store)
    made: list[Slot] = []

    def make(**changes: Any) -> Slot:
        recipe = make_recipe(tiny_sd, **changes)
        plan = make_plan(recipe, tmp_path / "images")
        made.append(make_slot(base, recipe, plan, latents=latents, texts=texts))
        return made[-1]

    yield make
    for slot in made:
        slot.close()
