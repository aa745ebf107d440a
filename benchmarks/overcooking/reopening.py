"""A cooked run opened again in this process: its recipe, and an untrained adapter of its kind in the base."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep import config, files

if TYPE_CHECKING:
    from lorasweep.kitchen import Kitchen
    from lorasweep.protocols import Adapter
    from lorasweep.records import Recipe


@dataclass(frozen=True, kw_only=True)
class Reopened:
    """What can be asked of a run; `adapter` lives in the kitchen's base."""

    folder: Path
    identity: str
    recipe: Recipe
    kitchen: Kitchen
    adapter: Adapter


_kitchen: Kitchen | None = None


@contextmanager
def reopened(folder: Path) -> Iterator[Reopened]:
    """Open a run folder; the adapter leaves the base afterwards, the kitchen stays for the next."""
    from lorasweep.kitchen import Kitchen

    global _kitchen
    _kitchen = _kitchen or Kitchen()
    run = files.read_json(folder / "run.json")
    recipe = config.compose_recipe(run["overrides"])
    kind = importlib.import_module(f"lorasweep.adapters.{recipe.adapter.name}")
    adapter = kind.build(_kitchen.base(recipe), seed=recipe.seed, **recipe.adapter.options)
    try:
        yield Reopened(
            folder=folder, identity=run["identity"], recipe=recipe, kitchen=_kitchen, adapter=adapter
        )
    finally:
        adapter.remove()
