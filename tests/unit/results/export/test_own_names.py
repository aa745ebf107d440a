"""Files of transformers have the names that programs look for, whatever kind of adapter they hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import pipeline_of
from run_folders import write_run
from safetensors.torch import load_file
from shipped import build, shake
from tiny_training import make_recipe

from lorasweep.cli import main
from lorasweep.core import registry
from lorasweep.core.records import BaseOptions, Component, Frame


@torch.no_grad()
@pytest.mark.parametrize(("name", "own"), [("anima", "blocks."), ("ernie_image", "layers."), ("ideogram4", "layers.")])
@pytest.mark.parametrize("reader", ["comfyui", "diffusers"])
def test_a_loha_of_a_transformer_has_the_names_that_are_read(
    name: str, own: str, reader: str, tiny_flow: Callable[[str], Path], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ComfyUI reads the factors, diffusers what they add as a plain LoRA; both by the base's own names."""
    knobs: dict[str, Any] = {"dim": 4, "alpha": 2.0, "targets": "full"}
    options = BaseOptions(name=name, path=str(tiny_flow(name)), resolution=32, bucket_step=8)
    recipe = make_recipe(tiny_flow(name), adapter=Component(name="loha", options=knobs))
    recipe = dataclasses.replace(recipe, base=options)
    base = registry.load("base", name).load(options, device="cpu", precision="fp32")
    noise, text = torch.randn(1, *base.latent.of(32, 32)), base.encode_captions(["zkw"])
    asked: dict[str, Any] = {
        "noisy_BCHW": noise,
        "t_B": torch.full((1,), 0.5),
        "text": text,
        "frames": [Frame.whole(32, 32)],
    }
    answers = [base.predict(**asked)]
    adapter = build(registry.load("adapter", "loha"), base, seed=0, **knobs)
    shake(adapter)
    write_run(home / "outputs" / "sweep" / "0000-a-s0", recipe, home / "images", adapter)
    answers.append(base.predict(**asked))
    adapter.remove()
    out = home / "x.safetensors"
    words = ["export", "sweep/0000-a-s0", "--for", reader, "--out", str(out)]
    if name == "ideogram4" and reader == "comfyui":  # queries, keys and values are one module there
        assert main(words) == 2 and "give --form lora" in capsys.readouterr().err
        words[2:4] = ["--form", "lora"]
    assert main(words) == 0
    assert all(key.startswith(f"diffusion_model.{own}") for key in load_file(out))
    if reader == "diffusers":
        pipeline_of(base, "euler").load_lora_weights(home, weight_name=out.name)
    else:
        registry.load("adapter", "file").build(base, seed=0, path=str(out))
    answers.append(base.predict(**asked))
    assert (answers[1] - answers[0]).abs().max() > 0.01 and torch.allclose(answers[1], answers[2], atol=1e-4)
