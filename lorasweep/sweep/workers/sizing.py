"""How many workers a sweep gets and of which kind: one per GPU, or as many as the CPU has cores for.

Takes the declaration and what the machine has, returns `PoolOptions`. Knows nothing about trials' fates.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.core.records import LauncherOptions
from lorasweep.sweep.queue import Trial
from lorasweep.sweep.ranking.noise import CONTENDERS
from lorasweep.sweep.workers.pool import PoolOptions

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec

LOG_FOLDER = "workers"


def pool_options(
    spec: SweepSpec, folder: Path, trials: Sequence[Trial], trial_module: str, *, further: bool
) -> PoolOptions:
    """Decide on the workers of one call.

    Args:
        spec: the sweep; its launcher has the person's wishes.
        folder: the sweep's; workers log below it.
        trials: those that are known so far.
        trial_module: where workers find `TrialResources`, `cook` and `draw_base_samples`.
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
        trial_module=trial_module,
        workers=workers,
        threads=threads,
        gpus=gpus,
        log_folder=folder / LOG_FOLDER,
        launcher=launcher,
    )


def wants_gpus(spec: SweepSpec) -> bool:
    """Whether any arm may be trained on a GPU."""
    return any(arm.recipe.train.device != "cpu" for arm in spec.known)


def share_out(launcher: LauncherOptions, *, gpus: int, cores: int, jobs: int) -> tuple[int, int]:
    """Decide how many workers there are and how many CPU threads each has.

    Args:
        launcher: what the person asked for.
        gpus: usable GPUs; one worker each unless asked otherwise.
        cores: usable CPU cores.
        jobs: how many trials can be cooked at the same time at most.

    Returns:
        (workers, threads), both at least 1.
    """
    workers = launcher.workers or gpus or max(1, cores // (launcher.threads or 1))
    workers = max(1, min(workers, jobs))
    return workers, launcher.threads or max(1, cores // workers)


def visible_gpus() -> list[str]:
    """CUDA devices that workers may use, found without importing torch; honours CUDA_VISIBLE_DEVICES."""
    declared = os.environ.get("CUDA_VISIBLE_DEVICES")
    if declared is not None:
        return [name.strip() for name in declared.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    count = sum(line.startswith("GPU ") for line in listing.stdout.splitlines())
    return [str(index) for index in range(count)]


def cpu_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
