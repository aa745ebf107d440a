"""How many workers a sweep gets and of which kind: one per GPU, or as many as the CPU has cores for.

Takes the declaration and what the machine has, returns `PoolOptions`. Knows nothing about trials' fates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.sweep.queue import Trial
from lorasweep.sweep.ranking.repeats import CONTENDERS
from lorasweep.sweep.workers.pool import PoolOptions, cpu_cores, share_out, visible_gpus
from lorasweep.sweep.workers.worker import Care

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec

LOG_FOLDER = "workers"


def crew(spec: SweepSpec, folder: Path, trials: Sequence[Trial], kitchen_module: str, *, further: bool) -> PoolOptions:
    """Decide on the workers of one call.

    Args:
        spec: the sweep; its launcher has the person's wishes.
        folder: the sweep's; workers log below it.
        trials: those that are known so far.
        kitchen_module: where workers find `Kitchen`, `cook` and `draw_base_samples`.
        further: whether repeats may be added once all is cooked.
    """
    launcher = spec.launcher
    gpus = visible_gpus() if wants_gpus(spec) else []
    jobs = len({trial.record.fingerprint for trial in trials if not trial.record.status.is_final})
    jobs += max(0, spec.total - len(trials))  # points not asked for yet
    if further:
        jobs = max(jobs, 1 + CONTENDERS)
    workers, threads = share_out(launcher, gpus=len(gpus), cores=cpu_cores(), jobs=jobs)
    return PoolOptions(
        kitchen_module=kitchen_module,
        workers=workers,
        threads=threads,
        gpus=gpus,
        log_folder=folder / LOG_FOLDER,
        launcher=launcher.name,
        care=Care(
            hang_s=launcher.hang_s,
            recycle_after=launcher.recycle_after,
            memory_growth_mb=launcher.memory_growth_mb,
        ),
    )


def wants_gpus(spec: SweepSpec) -> bool:
    """Whether any arm may be trained on a GPU."""
    return any(arm.recipe.train.device != "cpu" for arm in spec.known)
