"""Which function runs a stage, in how many processes; heavy imports happen only in the stage itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tools.pretrain_dollhouse.replicas import run_replicas


def _vae(out_dir: Path, processes: int, seed: int) -> None:
    from tools.pretrain_dollhouse.train_vae import VaePlan, train_vae

    run_replicas(train_vae, out_dir, seed, VaePlan(), processes=processes)


def _reader(out_dir: Path, processes: int, seed: int) -> None:
    from tools.pretrain_dollhouse.train_reader import ReaderPlan, train_reader

    # Batch norm wants whole batches, so this short stage runs in one process.
    run_replicas(train_reader, out_dir, seed, ReaderPlan(), processes=1)


def _text(out_dir: Path, processes: int, seed: int) -> None:
    from tools.pretrain_dollhouse.train_text import TextPlan, train_text

    run_replicas(train_text, out_dir, seed, TextPlan(), processes=processes)


def _latents(out_dir: Path, processes: int, seed: int, pictures: int = 80_000) -> None:
    from tools.pretrain_dollhouse.latents import LatentPlan, encode_pool

    run_replicas(encode_pool, out_dir, seed, LatentPlan.of(pictures), processes=processes)


def _shipped(out_dir: Path, processes: int, seed: int) -> None:
    from tools.pretrain_dollhouse.train_flow import take_shipped

    take_shipped(out_dir)


def _flow(out_dir: Path, processes: int, seed: int, **plan: int) -> None:
    from tools.pretrain_dollhouse.train_flow import FlowPlan, train_flow

    run_replicas(train_flow, out_dir, seed, FlowPlan(**plan), processes=processes)


def _unet(out_dir: Path, processes: int, seed: int) -> None:
    from tools.pretrain_dollhouse.train_unet import UnetPlan, train_unet

    run_replicas(train_unet, out_dir, seed, UnetPlan(), processes=processes)


def _publish(out_dir: Path, processes: int, seed: int) -> None:
    from tools.pretrain_dollhouse.publish import publish

    publish(out_dir, out_dir / "published")


_RUNNERS: Final[dict[str, Callable[..., None]]] = {
    "vae": _vae,
    "reader": _reader,
    "text": _text,
    "latents": _latents,
    "unet": _unet,
    "publish": _publish,
    "shipped": _shipped,
    "flow": _flow,
}


def run_stage(stage: str, out_dir: Path, *, processes: int, seed: int, **knobs: int) -> None:
    """Run one stage of `STAGES` or `FLOW_STAGES`; knobs are the stage's own, such as `pictures` or `steps`."""
    _RUNNERS[stage](out_dir, processes, seed, **knobs)
