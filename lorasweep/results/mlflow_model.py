"""The best adapter of a sweep as MLflow loads it back: prompts in, pictures out.

    model = mlflow.pyfunc.load_model("models:/m-...")    a folder: adapter.safetensors, recipe.yaml
    model.predict(["zkw, 1girl, red hat"])  ->  one RGB picture per prompt, as the sweep would have drawn it

Of every kind of adapter. The folder may be a stranger's: its recipe is read as data and checked. Knows
nothing about mlflow, which finds `_load_pyfunc` by this module's name in the file MLmodel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep import config
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.run_folder import ADAPTER_FILE, RECIPE_FILE
from lorasweep.plan.sample_requests import ImageRequest
from lorasweep.trial.resources import TrialResources, build_adapter

if TYPE_CHECKING:
    from PIL import Image


class DrawingModel:
    """A base with one adapter in it, and how its recipe samples. Not safe for threads."""

    def __init__(self, folder: Path) -> None:
        """Load the base and put the adapter of a model's folder in.

        Raises:
            ConfigError: its recipe is not one.
            AdapterError: the file does not fit the base.
        """
        self.recipe = config.read_recorded(folder / RECIPE_FILE)
        self._base = TrialResources().base(self.recipe)
        self._adapter = build_adapter(self._base, self.recipe, trained=True)
        self._adapter.load(folder / ADAPTER_FILE)

    def predict(self, prompts: Any, params: Mapping[str, Any] | None = None) -> list[Image.Image]:
        """Draw one prompt, several, or a table with a column `prompt`; `params` are those of `draw`. For MLflow."""
        if isinstance(prompts, str):
            prompts = [prompts]
        elif hasattr(prompts, "columns"):
            prompts = list(prompts["prompt"])
        return self.draw([str(prompt) for prompt in prompts], **(params or {}))

    def draw(
        self, prompts: Sequence[str], *, weight: float | None = None, seed: int | None = None
    ) -> list[Image.Image]:
        """Draw one RGB picture per prompt, in the recipe's size and with its sampler.

        Args:
            prompts: with the trigger, where the subject is wanted.
            weight: LoRA weight; None is the recipe's, 0 the base.
            seed: of the starting noise; None is the recipe's first.

        Raises:
            InputError: the weight is no finite number, the seed no whole one.
        """
        from lorasweep.trial import sample

        recipe, options = self.recipe, self.recipe.sample
        if weight is not None and not (isinstance(weight, Real) and math.isfinite(weight)):
            raise InputError(Problem("weight", f"must be a finite number, got {weight!r}", "e.g. 0.7"), subject="draw")
        if seed is not None and not isinstance(seed, Integral):
            raise InputError(Problem("seed", f"must be a whole number, got {seed!r}", "e.g. 0"), subject="draw")
        chosen = options.seeds[0] if seed is None else int(seed)
        strength = options.weight if weight is None else float(weight)
        requests = [
            ImageRequest.of(recipe, "in_distribution", prompt, seed=chosen, weight=strength) for prompt in prompts
        ]
        return sample.draw(self._base, self._adapter, requests, options)


def _load_pyfunc(path: str) -> DrawingModel:
    """Load for MLflow; `path` is the folder of the model's files, in older models the model's own."""
    return DrawingModel(Path(path))
