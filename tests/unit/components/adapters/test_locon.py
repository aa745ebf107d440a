from __future__ import annotations

import math
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
import shipped
import torch

from lorasweep.components.adapters import locon, lora
from lorasweep.components.adapters._targets import find_targets
from lorasweep.components.bases._scopes import UNET_SCOPES
from lorasweep.core.protocols import Base


@pytest.fixture(scope="module")
def sd15() -> Any:
    """Modules with SD 1.5's shapes and no weights."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)  # its defaults otherwise are SD 1.5's
        text = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12))
    return types.SimpleNamespace(
        parts={"unet": unet, "text_encoder": text}, scopes=UNET_SCOPES, device=torch.device("meta")
    )


def ranks(state: dict[str, torch.Tensor]) -> list[tuple[int, ...]]:
    """(rank, kernel) of each module."""
    return [(tensor.shape[0], *tensor.shape[2:]) for key, tensor in state.items() if key.endswith("lora_A.weight")]


def mebibytes_fp16(state: dict[str, torch.Tensor]) -> float:
    return sum(tensor.numel() for tensor in state.values()) * 2 / 2**20


def test_kohyas_modules_and_sizes_on_sd15(sd15: Any) -> None:
    """Counts and fp16 sizes of the files that sd-scripts makes, text encoder included."""
    plain = shipped.build(lora, sd15, seed=0, dim=32, text_encoder=True)
    state = meta_state(plain)
    plain.remove()
    parts = [key.partition(".")[0] for key in state if key.endswith("lora_A.weight")]
    assert (parts.count("unet"), parts.count("text_encoder")) == (192, 72)
    assert mebibytes_fp16(state) == pytest.approx(36.0, abs=0.2)
    made = shipped.build(locon, sd15, seed=0, dim=32, conv_dim=16, text_encoder=True)
    state = meta_state(made)
    made.remove()
    assert mebibytes_fp16(state) == pytest.approx(57.7, abs=0.2)
    unet = ranks({key: tensor for key, tensor in state.items() if key.startswith("unet.")})
    assert len(unet) == 278
    assert [shape[1:] for shape in unet].count((3, 3)) == 50
    assert all(shape[0] == (16 if shape[1:] == (3, 3) else 32) for shape in unet)
    assert len(ranks(state)) == 278 + 72


def test_kohyas_sizes_on_sdxl() -> None:
    """fp16 sizes of the files that sd-scripts makes for the UNet, by the shapes that are told without an adapter."""
    from diffusers import UNet2DConditionModel

    from lorasweep.components.bases import sdxl

    folder = Path(sdxl.__file__).parent / "sdxl_configs" / "unet"
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder))
    kinds = ((lora, "attn-mlp", {"dim": 32}, 5.073 * 32), (locon, "full", {"dim": 64, "conv_dim": 64}, 375))
    for module, scope, knobs, size in kinds:
        weights = [unet.get_submodule(name).weight for name in find_targets(unet, UNET_SCOPES[scope])]
        shapes = [shape for weight in weights for shape in module.layer_shapes(tuple(weight.shape), **knobs)]
        assert sum(map(math.prod, shapes)) * 2 / 2**20 == pytest.approx(size, rel=0.005)


def meta_state(adapter: Any) -> dict[str, torch.Tensor]:
    return {key: parameter.detach() for key, parameter in adapter.named_parameters()}


def test_time_projections_and_shortcuts_take_the_linear_rank(base: Base) -> None:
    made = shipped.build(locon, base, seed=0, dim=4, alpha=2.0, conv_dim=2, conv_alpha=2.0)
    state = made.state_dict()
    downs = [key for key in state if key.endswith(".lora_A.weight")]
    found = {key.split(".")[-3]: state[key].shape[0] for key in downs if "resnets" in key}
    assert found == {"conv1": 2, "conv2": 2, "time_emb_proj": 4, "conv_shortcut": 4}
    made.remove()


def test_diffusers_alone_gets_the_same_answers(base: Base, tiny_sd: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    made = shipped.build(locon, base, seed=0, dim=4, alpha=2.0, conv_dim=2, conv_alpha=3.0, text_encoder=True)
    generator = shipped.shake(made)
    made.save(tmp_path / "adapter.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, local_files_only=True)
        pipeline.load_lora_weights(str(tmp_path), weight_name="adapter.safetensors", adapter_name="x")
    text = base.encode_captions(["zkw"])["embeds"]
    noisy = torch.randn(1, 4, 8, 8, generator=generator)
    with torch.no_grad():
        made.set_weight(0)
        plain = base.unet(noisy, 10, text).sample
        made.set_weight(0.7)
        pipeline.set_adapters(["x"], [0.7])
        ours, theirs = base.unet(noisy, 10, text).sample, pipeline.unet(noisy, 10, text).sample
    assert (ours - plain).abs().max() > 0.01
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_too_much_convolution_is_refused_unless_forced() -> None:
    assert shipped.problems(locon, conv_dim=64, conv_alpha=32.0) == []
    found = shipped.problems(locon, conv_dim=65, conv_alpha=33.0)
    assert [key for key, _, _ in found] == ["conv_dim", "conv_alpha"]
    assert all("force" in hint for _, _, hint in found)
    assert shipped.problems(locon, conv_dim=65, conv_alpha=33.0, force=True) == []
    bad = shipped.problems(locon, dim=0, alpha=0.0, conv_dim=0, conv_alpha=-1.0, dropout=1.0, force=True)
    assert [key for key, _, _ in bad] == ["dim", "alpha", "conv_dim", "conv_alpha", "dropout"]
