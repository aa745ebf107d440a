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
ROWS = 16  # of one forward on a CPU: with more, nothing is gained
ROWS_OF_A_SEARCH = 4  # of one that learns: what is trained at the same time is asked for without each other's results
ROOM = 0.8  # of a device's memory, for an estimate that may be too low


def share_key(recipe: Recipe) -> str | None:
    """Tell what trials must have in common to be trained by one worker at a time; None: with nobody."""
    adapter, options, train = registry.load("adapter", recipe.adapter.name), recipe.adapter.options, recipe.train
    drops = any(options.get(knob) for knob in ("dropout", "rank_dropout", "module_dropout"))
    shares = getattr(adapter, "SHARES_FORWARD", False) and not drops
    if recipe.compute.dynamo_backend != "none":  # compiled blocks are for one adapter
        return None
    if not shares or options.get("text_encoder"):
        return None
    return digest([recipe.base, recipe.sample.base, recipe.memory, recipe.compute, train.device, train.precision])


def choose(pack: Pack, recipes: Sequence[Recipe], *, room: memory.Room | None, learns: bool) -> tuple[int, str]:
    """Decide how many trials a worker trains at a time.

    Args:
        pack: what is asked for.
        recipes: those that are known.
        room: what a worker has of a device's memory; None where a GPU does not tell.
        learns: whether what is asked for next depends on what came out.

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
    if room is None:
        return 1, "the GPU does not tell how much memory it has"
    fitting = [count for count in range(2, MOST + 1) if _peak_gib(recipes, count, room) <= ROOM * room.gib]
    most = max(fitting, default=1)
    if room.on_gpu:
        return most, f"as many as fit into {room.gib:.0f} GiB of a GPU, as estimated"
    rows, batch = ROWS_OF_A_SEARCH if learns else ROWS, max(recipe.train.batch_size for recipe in recipes)
    gaining = max(1, rows // batch)
    if most < min(MOST, gaining):
        return most, f"as many as fit into {room}, as estimated"
    if learns:
        return min(most, gaining), "a search that learns has few at a time"
    return min(most, gaining), f"on a CPU it pays up to {ROWS} images a forward, and a batch has {batch}"


def _peak_gib(recipes: Sequence[Recipe], count: int, room: memory.Room) -> float:
    """Return the highest use of a device by `count` of the largest of the recipes; infinite where it is not known."""
    found = (
        memory.peaks_gib(recipe, {"": memory.resolve(recipe, None)}, slots=count, on_gpu=room.on_gpu)
        for recipe in recipes
    )
    return max(peaks.get("", float("inf")) for peaks in found)
