"""Knobs of noise, loss and brakes from the command line to the weights, into an exported file and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from lorasweep import compose, plan
from lorasweep.cli import main
from lorasweep.core.safetensors_header import read_metadata

pytestmark = pytest.mark.usefixtures("quick_trials")
QUICK = ["train.max_steps=2", "train.rungs=1", "train.batch_size=2", "train.device=cpu", "train.keep=last"]
QUICK += ["dataset.dollhouse.images=6", "dataset.holdout=0", "tracking=none", "optimizer.lr=1e-2"]
QUICK += ["sample.steps=2", "sample.seeds=[0]", "sample.weights=[0.7]", "metrics=[prior_drift]", "sample.guidance=1"]
QUICK += ["dataset.prompts={in_distribution: [zkw], class: [1girl], unrelated: [hat]}"]
KNOBS: dict[str, list[str]] = {
    "nothing": [],
    "offset": ["noise.offset=0.2"],
    "offset by brightness": ["noise.offset=0.2", "noise.adaptive_noise_scale=0.5"],
    "coarser noises": ["noise.multires_iterations=6"],
    "perturbation": ["noise.input_perturbation=0.2"],
    "l1": ["noise.loss_type=l1"],
    "huber": ["noise.loss_type=huber"],
    "huber, exponential": ["noise.loss_type=huber", "noise.huber_schedule=exponential"],
    "smooth l1": ["noise.loss_type=smooth_l1", "noise.huber_schedule=constant"],
    "ranks": ["adapter.rank_dropout=0.5"],
    "layers": ["adapter.module_dropout=0.5"],
    "LoRA+": ["optimizer.loraplus_lr_ratio=16"],
    "average": ["regularization=ema"],
    "masks": ["dataset.masks=beside"],
}


def trained(capsys: pytest.CaptureFixture[str], *words: str) -> Path:
    assert main(["train", "--json", *QUICK, *words]) == 0
    return Path(json.loads(capsys.readouterr().out)["run_folder"])


def test_each_knob_trains_other_weights(home: Path, on_tiny_sd: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = {}
    for name, words in KNOBS.items():
        state = load_file(trained(capsys, *on_tiny_sd, *words) / "adapter.safetensors")
        assert all(tensor.isfinite().all() for tensor in state.values()), name
        found[name] = b"".join(state[key].numpy().tobytes() for key in sorted(state))
    alike = [name for name, weights in found.items() if list(found.values()).count(weights) > 1]
    assert alike == []


def test_an_exported_file_gives_the_knobs_back(
    home: Path, on_tiny_sd: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By sd-scripts' keys alone, as its users and their tools read them."""
    wanted: dict[str, Any] = {
        **{"noise.offset": 0.05, "noise.adaptive_noise_scale": 0.01, "noise.input_perturbation": 0.1},
        **{"noise.multires_iterations": 6, "noise.multires_discount": 0.4, "noise.min_snr_gamma": 5.0},
        **{"noise.loss_type": "huber", "noise.huber_c": 0.2, "noise.huber_schedule": "exponential"},
        **{"adapter.dim": 4, "adapter.rank_dropout": 0.25, "adapter.module_dropout": 0.125},
        **{"optimizer": "adamw", "optimizer.lr": 0.01, "optimizer.loraplus_lr_ratio": 16.0},
        **{"captions.tag_dropout": 0.1, "train.batch_size": 2, "regularization.scale_norm.max_norm": 2.0},
    }
    words = [f"{key}={value}" for key, value in wanted.items() if key not in ("train.batch_size", "optimizer.lr")]
    words += ["regularization=[scale_norm,ema]", "dataset.masks=beside"]
    run, out = trained(capsys, *on_tiny_sd, *words), tmp_path / "zkw.safetensors"
    assert main(["export", str(run), "--out", str(out)]) == 0
    told = dict(read_metadata(out))
    _assert_gives_the_recipe_back(out, on_tiny_sd, run)
    kept = json.loads(told.pop("lorasweep.recipe"))  # what sd-scripts has no keys for
    assert kept["dataset"]["masks"] == "beside" and "ema" in kept["regularization"]
    save_file(load_file(out), out, told)
    capsys.readouterr()
    assert main(["import", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {key: found["recipe"].get(key) for key in wanted} == wanted
    assert not any("known here" in note["reason"] for note in found["untranslated"])
    assert "optimizer_args" not in str(found["untranslated"])


def _assert_gives_the_recipe_back(out: Path, on_base: list[str], run: Path) -> None:
    """Compare what its own recipe plans with the run's, once the base is given, of which it has a name."""
    written = out.with_suffix(".yaml")
    assert main(["import", str(out), "--out", str(written)]) == 0
    recipe = compose(written, *(word for word in on_base if word.startswith("base.path=")))
    assert run.name.startswith(plan(recipe).arms[0][1].fingerprint[:12])
