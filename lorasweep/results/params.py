"""Which keys of a recipe become MLflow params: the headline, what people typed, what tells the arms apart.

Constants would only widen MLflow's table and flatten its parallel-coordinates chart; the whole recipe is an
artifact anyway. Takes recipes as the plain dicts of `recipe.yaml`. Knows nothing about mlflow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lorasweep.core import records
from lorasweep.sweep.ranking.state import params

HEADLINE = ("seed", "adapter.name", "adapter.dim", "optimizer.name", "optimizer.lr", "scheduler.name")


def flatten(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a recipe to the keys people type: `adapter.options.dim` is `adapter.dim`; lists stay values.

    Regularizers, of which a recipe may have none or several, get a name together: `scale_norm+reg_images`.
    """
    of_result = {key: value for key, value in recipe.items() if key not in records.NOT_THE_RECIPE}
    flat = {key.replace(".options.", "."): value for key, value in records.flatten(of_result).items()}
    if isinstance(brakes := recipe.get("regularization"), Mapping):
        flat["regularization.name"] = "+".join(brakes) or "none"
    return flat


def telling_keys(arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the keys that tell the arms of a manifest apart, by their `recipe` and `overrides`.

    A key that all arms have and that differs, or one that somebody typed. The remaining knobs of a scheduler
    that only one arm uses follow from `scheduler.name` and are left out.
    """
    # A point of a search is known by its overrides alone.
    recipes = [flatten(arm["recipe"]) for arm in arms if arm.get("recipe")]
    shared = set(recipes[0]).intersection(*recipes[1:]) if recipes else set()
    differing = {key for key in shared if len({_text(recipe[key]) for recipe in recipes}) > 1}
    typed = {key.lstrip("~") for arm in arms for key in params(arm.get("overrides") or ()) if "." in key}
    return sorted(differing | typed)


def run_params(recipe: Mapping[str, Any], arm: Mapping[str, Any], telling: Sequence[str]) -> dict[str, str]:
    """Choose and format the params of a run: of its recipe, its arm in the manifest (or {}), the `telling_keys`."""
    flat = flatten(recipe)
    chosen = {key: _text(flat[key]) for key in (*HEADLINE, *telling) if key in flat}
    # `buckets: four` is what people know it by; the recipe only keeps the generator's name and its sizes.
    if "buckets.name" in flat:
        chosen["buckets"] = str(params(arm.get("overrides") or ()).get("buckets", flat["buckets.name"]))
        for key in [key for key in chosen if key.startswith("buckets.")]:
            del chosen[key]
    return chosen


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
