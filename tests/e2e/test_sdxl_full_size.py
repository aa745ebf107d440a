"""Two steps of a full-size SDXL with random weights on the CPU, with the levers of memory=8gb that a CPU has.

python -m pytest -m slow -s tests/e2e/test_sdxl_full_size.py      (21 GiB of free memory, Linux)
"""

from __future__ import annotations

import ctypes
import gc
import resource
from pathlib import Path
from typing import Any

import pytest
import shipped
import torch

from lorasweep.components.adapters import lora
from lorasweep.components.bases import _footprint, _stored, sdxl
from lorasweep.components.bases._families import SDXL
from lorasweep.config import compose_recipe
from lorasweep.core.records import MemoryOptions
from lorasweep.plan import memory

pytestmark = pytest.mark.slow
M_MMAP_THRESHOLD = -3  # of mallopt: what is larger is the kernel's


def test_two_steps_at_1024_px_take_less_than_20_gb() -> None:
    from diffusers import UNet2DConditionModel

    config = UNet2DConditionModel.load_config(Path(sdxl.__file__).parent / "sdxl_configs" / "unet")
    torch.set_default_dtype(torch.bfloat16)
    try:
        unet: Any = UNet2DConditionModel.from_config(config)
    finally:
        torch.set_default_dtype(torch.float32)
    shapes = {name: tuple(each.shape) for name, each in unet.named_parameters() if name.endswith(".weight")}
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
    gc.collect()
    # What is let go goes back to the machine: glibc as it comes holds 3 GiB of it.
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**20)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    told = {
        "text_embeds": torch.randn(1, 1280).bfloat16(),
        "time_ids": torch.tensor([[1024.0, 1024, 0, 0, 1024, 1024]]),
    }
    text, noisy = torch.randn(1, 77, 2048).bfloat16(), torch.randn(1, 4, 128, 128).bfloat16()
    for _ in range(2):  # the optimizer's numbers are there from the second on
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = unet(noisy, torch.tensor([500]), text, added_cond_kwargs=told).sample
        answer.float().square().mean().backward()
        assert len(adapter.layers) == 722 and all(p.grad is not None for p in parameters)
        optimizer.step()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 < 20  # GiB

    status = Path("/proc/self/status").read_text()
    measured = int(status.partition("VmHWM:")[2].split()[0]) / 2**20
    recipe = compose_recipe(
        ["train.precision=bf16", "train.batch_size=1", "base.resolution=1024", "base.bucket_step=64"]
    )
    alone = _footprint.of_shapes(shapes, SDXL, texts=(), vae=0, vae_config={"block_out_channels": [1] * 4})
    levers = MemoryOptions(gradient_checkpointing=True, storage="fp8", tile_vae=True)
    trained = sum(p.numel() for p in parameters)
    estimated = memory.peak_gib(recipe, levers, alone, trained=trained) + memory.LIBRARIES
    print(f"{measured:.2f} GiB in two steps, {estimated:.2f} estimated")
    assert estimated == pytest.approx(measured, rel=0.25)
