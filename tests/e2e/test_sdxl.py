"""SDXL as a person goes: train on a single v-prediction file, judge, export, and read the file with diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import pipeline_of
from safetensors import safe_open
from tiny_sdxl import as_one_file

from lorasweep.cli import main
from lorasweep.components.bases import sdxl
from lorasweep.config import compose_recipe
from lorasweep.core import registry
from lorasweep.core.records import Frame

SMALL = ["base.resolution=32", "base.bucket_step=8", "buckets=kohya", "dataset.dollhouse.images=8", "tracking=none"]
QUICK = ["train.max_steps=2", "train.rungs=1", "sample.steps=2", "sample.seeds=[0]", "sample.weights=[0.7]"]
QUICK += ["metrics=[generalisation,prior_drift]"]


@pytest.fixture
def checkpoint(tiny_sdxl_v: Path, tmp_path: Path) -> Path:
    """A file with NoobAI's marks, its configs in the folder beside it."""
    return as_one_file(tiny_sdxl_v, tmp_path / "noob.safetensors", marks=("v_pred", "ztsnr"))


@pytest.mark.parametrize("adapter", ["lora", "locon"])
def test_a_file_is_trained_on_judged_exported_and_read_by_diffusers(
    adapter: str, checkpoint: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["base=auto", f"base.path={checkpoint}", *SMALL, *QUICK, f"adapter={adapter}", "adapter.text_encoder=true"]
    words += ["optimizer.lr=0.05", "optimizer.text_encoder_lr=[0.02,0.01]"]
    assert main(["train", "--json", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "COMPLETED" and {"overcook/score", "prior_drift/class"} <= told["metrics"].keys()
    (run,) = (home / "outputs" / "train").glob("*-s0")
    assert main(["export", "--json", f"train/{run.name}", "--out", str(tmp_path / "x.safetensors")]) == 0

    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        names, metadata = list(file.keys()), file.metadata()
    modules = {name.split(".")[0] for name in names}
    assert all(name.startswith(("lora_unet_", "lora_te1_text_model_", "lora_te2_text_model_")) for name in modules)
    assert metadata["modelspec.prediction_type"] == "v" if "modelspec.prediction_type" in metadata else True
    assert metadata["ss_zero_terminal_snr"] == "True"

    recipe = compose_recipe(words)
    base: Any = sdxl.load(recipe.base, device="cpu", precision="fp32")
    ours = registry.load("adapter", adapter).build(base, seed=0, **recipe.adapter.options)
    ours.load(run / "adapter.safetensors")
    noisy, frames = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), [Frame.whole(32, 32)]
    with torch.no_grad():
        wanted = base.predict(noisy, torch.tensor([500]), base.encode_captions(["zkw, red hair"]), frames)
    assert len(ours.layers) == len(modules)
    ours.remove()
    theirs: Any = sdxl.load(recipe.base, device="cpu", precision="fp32")
    pipeline = pipeline_of(theirs, "ddim")
    with torch.no_grad():
        plain = theirs.predict(noisy, torch.tensor([500]), theirs.encode_captions(["zkw, red hair"]), frames)
        pipeline.load_lora_weights(str(tmp_path / "x.safetensors"))
        wrapped = [name for part in theirs.parts.values() for name, m in part.named_modules() if hasattr(m, "lora_A")]
        found = theirs.predict(noisy, torch.tensor([500]), theirs.encode_captions(["zkw, red hair"]), frames)
    assert len(wrapped) == len(modules)
    assert torch.allclose(found, wanted, atol=1e-5) and not torch.allclose(plain, wanted, atol=1e-3)
