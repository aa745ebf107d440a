"""Which function runs a stage, and in how many processes."""

from __future__ import annotations

from pathlib import Path

from lorasweep.dollhouse.base.replicas import run_replicas


def _vae(out_dir: Path, processes: int, seed: int) -> None:
    from lorasweep.dollhouse.base.train_vae import VaePlan, train_vae

    run_replicas(train_vae, out_dir, seed, VaePlan(), processes=processes)


_RUNNERS = {"vae": _vae}


def run_stage(stage: str, out_dir: Path, *, processes: int, seed: int) -> None:
    """Run one stage of `pretrain.STAGES`."""
    _RUNNERS[stage](out_dir, processes, seed)
