from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import shipped
import torch

from lorasweep.components.adapters import dora
from lorasweep.core.protocols import Base


def test_magnitudes_start_as_the_bases_norms_whatever_the_seed(base: Base) -> None:
    adapter = shipped.build(dora, base, seed=5, dim=2, alpha=16.0, text_encoder=True)
    state = adapter.state_dict()
    name = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    weight = base.unet.get_submodule(name).get_base_layer().weight
    magnitude = state[f"unet.{name}.lora_magnitude_vector.weight"]
    assert torch.allclose(magnitude, weight.norm(dim=1))
    assert len(adapter.parameters()["unet"]) == len({id(p) for p in adapter.parameters()["unet"]})
    adapter.remove()


@pytest.mark.parametrize("targets", ["attn-mlp", "full"])
def test_diffusers_agrees_at_weight_one_and_not_below(targets: str, base: Base, tiny_sd: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    adapter = shipped.build(dora, base, seed=0, dim=4, alpha=2.0, targets=targets, text_encoder=True)
    generator = shipped.shake(adapter)
    adapter.save(tmp_path / "adapter.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, local_files_only=True)
        pipeline.load_lora_weights(str(tmp_path), weight_name="adapter.safetensors", adapter_name="x")
    noisy = torch.randn(1, 4, 8, 8, generator=generator)
    text = torch.randn(1, 4, base.unet.config.cross_attention_dim, generator=generator)
    answers = {}
    with torch.no_grad():
        for weight in (0.0, 0.7, 1.0):
            adapter.set_weight(weight)
            pipeline.set_adapters(["x"], [weight])
            answers[weight] = (base.unet(noisy, 10, text).sample, pipeline.unet(noisy, 10, text).sample)
    assert (answers[1.0][0] - answers[0.0][0]).abs().max() > 0.01
    assert torch.allclose(*answers[1.0], atol=1e-5)
    assert not torch.allclose(*answers[0.7], atol=1e-4)
    assert not torch.allclose(*answers[0.0], atol=1e-4)
    adapter.remove()


def test_problems_are_listed_all_at_once() -> None:
    found = shipped.problems(dora, dim=0, alpha=0.0, dropout=1.0)
    assert [key for key, _, _ in found] == ["dim", "alpha", "dropout"]
