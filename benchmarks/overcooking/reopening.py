"""A cooked run opened again in this process: its recipe, and an untrained adapter of its kind in the base."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep import config
from lorasweep.core import files, registry
from lorasweep.trial import finish

if TYPE_CHECKING:
    from lorasweep.core.protocols import Adapter
    from lorasweep.core.records import Recipe
    from lorasweep.trial.resources import Kitchen


@dataclass(frozen=True, kw_only=True)
class Reopened:
    """What can be asked of a run; `adapter` lives in the kitchen's base."""

    folder: Path
    identity: str
    recipe: Recipe
    kitchen: Kitchen
    adapter: Adapter

    def recall(self, step: int) -> bool:
        """Put a rung's weights into the adapter; False when they were not kept."""
        if not finish.checkpoint_folder(self.folder, step).exists():
            return False
        finish.recall_weights(self.adapter, self.folder, step)
        return True


def recipe_of(folder: Path) -> Recipe:
    """The recipe that a run was begun with, as today's config composes it."""
    return config.compose_recipe(files.read_json(folder / "run.json")["overrides"])


_kitchen: Kitchen | None = None


@contextmanager
def reopened(folder: Path) -> Iterator[Reopened]:
    """Open a run folder; the adapter leaves the base afterwards, the kitchen stays for the next."""
    from lorasweep.trial.resources import Kitchen

    global _kitchen
    _kitchen = _kitchen or Kitchen()
    recipe = recipe_of(folder)
    kind = registry.load("adapter", recipe.adapter.name)
    adapter = kind.build(_kitchen.base(recipe), seed=recipe.seed, **recipe.adapter.options)
    try:
        identity = files.read_json(folder / "run.json")["identity"]
        yield Reopened(folder=folder, identity=identity, recipe=recipe, kitchen=_kitchen, adapter=adapter)
    finally:
        adapter.remove()
