"""Worker processes on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from lorasweep.core.records import LauncherOptions, Recipe
from lorasweep.plan.memory import Pack, choose
from lorasweep.sweep.launchers import LaunchOptions
from lorasweep.sweep.workers.pool import WorkerPool, gpu_gib, supply_here

PACK: Pack = "auto"  # of launchers that were recorded before they had the knob


def build(options: LaunchOptions, *, pack: Pack = PACK) -> WorkerPool:
    """Make the pool; entering it starts the workers."""
    count, _ = packing(options.launcher, options.recipes, jobs=options.jobs, pack=pack)
    return WorkerPool(options, pack=count)


def packing(launcher: LauncherOptions, recipes: Sequence[Recipe], *, jobs: int, pack: Pack = PACK) -> tuple[int, str]:
    """How many trials a worker trains at a time, and why, for people."""
    on_gpu = any(recipe.train.device != "cpu" for recipe in recipes)
    supply = supply_here(launcher, jobs=jobs, gpus_wanted=on_gpu)
    return choose(pack, recipes, gpu_gib=gpu_gib(supply) if supply.gpus else None)
