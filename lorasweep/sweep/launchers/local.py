"""Worker processes on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from lorasweep.core.records import LauncherOptions, Recipe
from lorasweep.plan.memory import Room
from lorasweep.plan.packing import Pack, choose
from lorasweep.sweep.launchers import LaunchOptions
from lorasweep.sweep.workers.pool import WorkerPool, room_of, supply_here

PACK: Pack = "auto"  # of launchers that were recorded before they had the knob


def build(options: LaunchOptions, *, pack: Pack = PACK) -> WorkerPool:
    """Make the pool; entering it starts the workers."""
    found = room(options.launcher, options.recipes, jobs=options.jobs)
    count, _ = packing(options.launcher, options.recipes, room=found, learns=options.learns, pack=pack)
    return WorkerPool(options, pack=count)


def packing(
    launcher: LauncherOptions, recipes: Sequence[Recipe], *, room: Room | None, learns: bool, pack: Pack = PACK
) -> tuple[int, str]:
    """Tell how many trials a worker trains at a time in the `room` that it has, and why, for people."""
    return choose(pack, recipes, room=room, learns=learns)


def room(launcher: LauncherOptions, recipes: Sequence[Recipe], *, jobs: int) -> Room | None:
    """Tell what each worker has of a device's memory; None where a GPU does not tell."""
    on_gpu = any(recipe.train.device != "cpu" for recipe in recipes)
    return room_of(supply_here(launcher, jobs=jobs, gpus_wanted=on_gpu))
