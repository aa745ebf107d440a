"""One step of a full-size SDXL with random weights on the CPU, with the levers of memory=8gb that a CPU has."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import pytest
import shipped
import torch

from lorasweep.components.adapters import lora
from lorasweep.components.bases import _stored, sdxl

pytestmark = pytest.mark.slow


def test_a_step_at_1024_px_takes_less_than_20_gb() -> None:
    from diffusers import UNet2DConditionModel

    config = UNet2DConditionModel.load_config(Path(sdxl.__file__).parent / "sdxl_configs" / "unet")
    torch.set_default_dtype(torch.bfloat16)
    try:
        unet: Any = UNet2DConditionModel.from_config(config)
    finally:
        torch.set_default_dtype(torch.float32)
    unet.requires_grad_(False)
    unet.enable_gradient_checkpointing()
    _stored.store(unet, "fp8", torch.bfloat16)

    class Base:
        parts = {"unet": unet}
        scopes = sdxl.SCOPES
        device = torch.device("cpu")

    adapter: Any = shipped.build(lora, Base, seed=0, dim=16, alpha=8.0)  # type: ignore[arg-type]
    parameters = adapter.parameters()["unet"]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    unet.train()
    told = {
        "text_embeds": torch.randn(1, 1280).bfloat16(),
        "time_ids": torch.tensor([[1024.0, 1024, 0, 0, 1024, 1024]]),
    }
    with torch.autocast("cpu", dtype=torch.bfloat16):
        text = torch.randn(1, 77, 2048).bfloat16()
        noisy = torch.randn(1, 4, 128, 128).bfloat16()
        answer = unet(noisy, torch.tensor([500]), text, added_cond_kwargs=told).sample
    answer.float().square().mean().backward()
    assert len(adapter.layers) == 722 and all(p.grad is not None for p in parameters)
    optimizer.step()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 < 20  # GiB
