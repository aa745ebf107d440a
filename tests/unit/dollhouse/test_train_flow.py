"""The stage that trains the second dollhouse: its pool grows, and what was interrupted goes on as if it were not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lorasweep.dollhouse.world.attributes import SIZES_PX
from tools.pretrain_dollhouse import architecture, train_flow
from tools.pretrain_dollhouse.latents import LatentPlan, LatentPool, encode_pool
from tools.pretrain_dollhouse.replicas import Replica

ALONE = Replica(0, 1)
PLAN = {"batch": 2, "warmup": 2, "text_steps": 2, "text_batch": 2, "cooldown": 2}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder with a small pool, and a transformer of one block each."""
    whole = architecture.build_transformer

    def shallow() -> torch.nn.Module:
        transformer = whole()
        del transformer.transformer_blocks[1:], transformer.single_transformer_blocks[1:]
        return transformer

    monkeypatch.setattr(train_flow, "build_transformer", shallow)
    monkeypatch.setattr(train_flow, "publish_flow", lambda out_dir, target: None)
    train_flow.take_shipped(tmp_path)
    encode_pool(ALONE, tmp_path, 0, LatentPlan(counts=(2,) * 5, batch=2))
    return tmp_path


def test_a_pool_grows_and_keeps_what_it_has(run: Path) -> None:
    before = [np.array(LatentPool.open(run, size).latents_NCHW) for size in SIZES_PX]
    encode_pool(ALONE, run, 0, LatentPlan(counts=(4, *(2,) * 4), batch=2))
    after = [LatentPool.open(run, size) for size in SIZES_PX]
    assert [len(pool.latents_NCHW) for pool in after] == [len(pool.attributes_NA) for pool in after] == [4, 2, 2, 2, 2]
    assert all(np.array_equal(old, new.latents_NCHW[:2]) for old, new in zip(before, after, strict=True))
    assert after[0].latents_NCHW[2:].any(axis=(1, 2, 3)).all()


def test_an_interrupted_run_ends_where_another_does(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train() -> torch.Tensor:
        train_flow.train_flow(ALONE, run, 0, train_flow.FlowPlan(steps=4, publish_every=2, **PLAN))
        weights: torch.Tensor = torch.load(run / "flow.pt", weights_only=True)["model"]["transformer.proj_out.weight"]
        return weights

    whole = train()
    (run / "flow.pt").unlink()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_flow, "publish_flow", _interrupt)
        train()
    assert torch.load(run / "flow.pt", weights_only=True)["step"] == 2
    assert whole.abs().max() > 0 and torch.equal(train(), whole)


def _interrupt(out_dir: Path, target: Path) -> None:
    raise KeyboardInterrupt
