"""SDXL as a person goes: train on a v-prediction file, judge, export; read the file ourselves and with diffusers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from oracle import pipeline_of
from safetensors import safe_open
from tiny_sdxl import as_one_file

from lorasweep.cli import main
from lorasweep.components.adapters import file
from lorasweep.components.bases import sdxl
from lorasweep.config import compose_recipe
from lorasweep.core import registry
from lorasweep.core.records import Frame, Recipe

pytestmark = pytest.mark.usefixtures("quick_trials")
ADAPTERS = Path(__file__).parents[2] / "conf" / "adapter"
SMALL = ["base.resolution=32", "base.bucket_step=8", "buckets=kohya", "dataset.dollhouse.images=8", "tracking=none"]
QUICK = ["train.max_steps=2", "train.rungs=1", "sample.steps=2", "sample.seeds=[0]", "sample.weights=[0.7]"]
QUICK += ["metrics=[generalisation,prior_drift]", "sample.guidance=1"]


@pytest.fixture
def checkpoint(tiny_sdxl_v: Path, tmp_path: Path) -> Path:
    """A file with NoobAI's marks, its configs in the folder beside it."""
    return as_one_file(tiny_sdxl_v, tmp_path / "noob.safetensors", marks=("v_pred", "ztsnr"))


FAST = {("locon", "adamw")}
KINDS = sorted({yaml.safe_load(file.read_text())["name"] for file in ADAPTERS.glob("*.yaml")} - {"files"})
PAIRS = [
    pytest.param(*pair, marks=[] if pair in FAST else pytest.mark.slow)
    for pair in [*((kind, "adamw") for kind in KINDS), ("lora", "prodigy")]
]


@pytest.mark.parametrize(("adapter", "optimizer"), PAIRS)
def test_a_file_is_trained_on_judged_exported_and_read_again(
    adapter: str, optimizer: str, checkpoint: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of all kinds: python -m pytest -m "slow or not slow" tests/e2e/test_sdxl.py."""
    words = ["base=auto", f"base.path={checkpoint}", *SMALL, *QUICK, f"adapter={adapter}", "adapter.text_encoder=true"]
    rates = {"adamw": ["optimizer.lr=0.05", "optimizer.text_encoder_lr=[0.02,0.01]"], "prodigy": ["optimizer.d0=1e-2"]}
    words += [f"optimizer={optimizer}", *rates[optimizer]]
    assert main(["train", "--json", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == "COMPLETED" and {"overcook/score", "prior_drift/class"} <= told["metrics"].keys()
    (run,) = (home / "outputs" / "train").glob("*-s0")
    exported = tmp_path / "x.safetensors"
    assert main(["export", "--json", f"train/{run.name}", "--out", str(exported)]) == 0

    with safe_open(exported, "pt") as opened:
        names, metadata = list(opened.keys()), opened.metadata()
    modules = {name.split(".")[0] for name in names}
    assert all(name.startswith(("lora_unet_", "lora_te1_text_model_", "lora_te2_text_model_")) for name in modules)
    assert metadata["modelspec.prediction_type"] == "v" and metadata["ss_zero_terminal_snr"] == "True"
    assert metadata["ss_base_model_version"] == "sdxl_base_v1-0"
    assert metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"

    recipe = compose_recipe(words)
    base = load(recipe)
    plain = answer(base)
    ours = registry.load("adapter", adapter).build(base, seed=0, **recipe.adapter.options)
    ours.load(run / "adapter.safetensors")
    wanted = answer(base)
    assert len(ours.layers) == len(modules)
    ours.remove()
    assert torch.equal(answer(base), plain) and not torch.allclose(plain, wanted, atol=1e-3)
    file.build(base, seed=0, path=str(exported))
    assert torch.allclose(answer(base), wanted, atol=1e-5)
    if adapter in ("lora", "locon"):
        theirs = load(recipe)
        pipeline_of(theirs, "ddim").load_lora_weights(str(exported))
        wrapped = [name for part in theirs.parts.values() for name, m in part.named_modules() if hasattr(m, "lora_A")]
        assert len(wrapped) == len(modules) and torch.allclose(answer(theirs), wanted, atol=1e-5)


def load(recipe: Recipe) -> Any:
    return sdxl.load(recipe.base, device="cpu", precision="fp32")


@torch.no_grad()
def answer(base: Any) -> torch.Tensor:
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    found: torch.Tensor = base.predict(
        noisy, torch.tensor([500]), base.encode_captions(["zkw, red hair"]), [Frame.whole(32, 32)]
    )
    return found
