"""A pre-training stage goes on from its checkpoint exactly as it stood."""

from __future__ import annotations

from pathlib import Path

import torch

from tools.pretrain_dollhouse.loop import Ema, resume, save


def test_a_stage_resumes_as_it_stood(tmp_path: Path) -> None:
    def made() -> tuple[torch.nn.Linear, Ema[torch.nn.Linear], torch.optim.AdamW]:
        model = torch.nn.Linear(3, 2)
        return model, Ema(model, decay=0.9), torch.optim.AdamW(model.parameters())

    model, ema, optimizer = made()
    assert resume(tmp_path / "stage.pt", model, ema, optimizer) == 0
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    ema.update(model, 0)
    save(tmp_path / "stage.pt", model, ema, optimizer, step=7)

    again, again_ema, again_optimizer = made()
    assert not torch.equal(again.weight, model.weight)
    assert resume(tmp_path / "stage.pt", again, again_ema, again_optimizer) == 7
    assert torch.equal(again.weight, model.weight)
    assert torch.equal(again_ema.module.weight, ema.module.weight)
    moments = [state["exp_avg"] for state in optimizer.state.values()]
    assert all(torch.equal(a, s["exp_avg"]) for a, s in zip(moments, again_optimizer.state.values(), strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["stage.pt"]
