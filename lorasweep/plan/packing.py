"""Which trials one worker can train together, and how many at a time (`launcher.pack`). No torch.

Slots whose adapters are products share one forward of the base (`trial.train.packed`); results do not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from lorasweep.core import registry
from lorasweep.core.records import Recipe, digest
from lorasweep.plan import memory

Pack = Annotated[int, Field(ge=1, examples=[4])] | Literal["auto"]
MOST = 4  # with more, less is gained by each: docs/performance.md
ROOM = 0.8  # of a card's memory, for an estimate that may be too low


def share_key(recipe: Recipe) -> str | None:
    """Tell what trials must have in common to be trained by one worker at a time; None: with nobody."""
    adapter, options, train = registry.load("adapter", recipe.adapter.name), recipe.adapter.options, recipe.train
    shares = getattr(adapter, "SHARES_FORWARD", False) and not options.get("dropout")
    if recipe.compute.dynamo_backend != "none":  # compiled blocks are for one adapter
        return None
    if not shares or options.get("text_encoder"):
        return None
    return digest([recipe.base, recipe.sample.base, recipe.memory, recipe.compute, train.device, train.precision])


def choose(pack: Pack, recipes: Sequence[Recipe], *, gpu_gib: float | None) -> tuple[int, str]:
    """Decide how many trials a worker trains at a time.

    Args:
        pack: what is asked for.
        recipes: those that are known.
        gpu_gib: memory of a GPU that a worker has for itself; None on the CPU.

    Returns:
        How many, at least 1, and why, for people.
    """
    if pack != "auto":
        return pack, "launcher.pack says so"
    keys = {share_key(recipe) for recipe in recipes}
    if None in keys:
        return 1, "only LoRA, LoCon and DyLoRA share a forward, uncompiled, without dropout and text encoders"
    if len(keys) != 1:
        return 1, "only trials on the same base, device and memory choices share a forward"
    batch = max(recipe.train.batch_size for recipe in recipes)
    if gpu_gib is not None:
        fitting = [count for count in range(1, MOST + 1) if _peak_gib(recipes, count) <= ROOM * gpu_gib]
        return max(fitting, default=1), f"as many as fit into {gpu_gib:.0f} GiB of a GPU, as estimated"
    if batch == 1:
        return MOST, "on a CPU batches of 1 cost less in one forward"
    return 1, f"on a CPU nothing is gained by sharing a forward of batch {batch}"


def _peak_gib(recipes: Sequence[Recipe], count: int) -> float:
    """Return the highest use of a card by `count` of the largest recipes at a time; infinite where it is not known."""
    found = (memory.peaks_gib(recipe, {"": memory.resolve(recipe, None)}, slots=count) for recipe in recipes)
    return max(peaks.get("", float("inf")) for peaks in found)
