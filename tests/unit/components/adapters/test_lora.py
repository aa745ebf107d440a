from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shipped
import torch
from safetensors import safe_open

from lorasweep.components.adapters import lora
from lorasweep.components.adapters._targets import find_targets
from lorasweep.components.bases._scopes import UNET_SCOPES
from lorasweep.core.errors import AdapterError
from lorasweep.core.protocols import Adapter, Base

PROMPTS = ["zkw, red hair", "1girl, blue dress"]


@pytest.fixture
def adapter(base: Base) -> Iterator[Adapter]:
    """A LoRA on both parts, moved away from the identity."""
    made = shipped.build(lora, base, seed=0, dim=4, alpha=2.0, text_encoder=True)
    shipped.shake(made)
    yield made
    made.remove()


@torch.no_grad()
def look(unet: Any, text_encoder_output: torch.Tensor) -> torch.Tensor:
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    answer: torch.Tensor = unet(noisy, torch.tensor([10, 700]), text_encoder_output).sample
    return answer


def outputs(base: Base) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        text = base.encode_captions(PROMPTS)["embeds"]
    return text, look(base.unet, text)


def test_kohya_counts_on_a_unet_shaped_like_sd15() -> None:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)  # its defaults otherwise are SD 1.5's
        text = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12))
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964
    assert len(find_targets(unet, UNET_SCOPES["attn-mlp"])) == 192
    assert len(find_targets(unet, UNET_SCOPES["attn"])) == 128
    # 22 residual blocks (conv1, conv2, time_emb_proj; 14 shortcuts), 3 down- and 3 upsamplers.
    assert len(find_targets(unet, UNET_SCOPES["full"])) == 192 + 22 * 3 + 14 + 6
    assert [len(find_targets(text, UNET_SCOPES[scope])) for scope in ("attn", "attn-mlp", "full")] == [48, 72, 72]


@pytest.mark.parametrize("targets", ["attn", "attn-mlp", "full"])
def test_diffusers_alone_gets_the_same_answers_at_every_weight(
    targets: Any, base: Base, tiny_sd: Path, tmp_path: Path
) -> None:
    from diffusers import StableDiffusionPipeline

    adapter = shipped.build(lora, base, seed=0, dim=4, alpha=2.0, targets=targets, text_encoder=True)
    shipped.shake(adapter)
    adapter.save(tmp_path / "adapter.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, local_files_only=True)
        pipeline.load_lora_weights(str(tmp_path), weight_name="adapter.safetensors", adapter_name="x")
    adapter.set_weight(0)
    plain = outputs(base)
    for weight in (0.7, 0.4, 1.0):
        adapter.set_weight(weight)
        pipeline.set_adapters(["x"], [weight])
        text, answer = outputs(base)
        with torch.no_grad():
            their_text, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)
        assert torch.allclose(their_text, text, atol=1e-6)
        assert torch.allclose(look(pipeline.unet, their_text), answer, atol=1e-6)
        if weight == 0.7:
            assert (answer - plain[1]).abs().max() > 0.01 and (text - plain[0]).abs().max() > 0.01


def test_weight_scales_the_product_by_alpha_over_dim(base: Base) -> None:
    """By hand, in float64, on one layer: W x + weight * alpha / dim * up (down x)."""
    adapter = shipped.build(lora, base, seed=0, dim=4, alpha=2.0)
    shipped.shake(adapter)
    layer = base.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    state = {key: tensor.double() for key, tensor in adapter.state_dict().items()}
    down, up = state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"]
    x = torch.randn(3, down.shape[1], generator=torch.Generator().manual_seed(0))
    plain = layer.get_base_layer()(x)
    for weight in (1.0, 0.7):
        adapter.set_weight(weight)
        moved = layer(x) - plain
        assert torch.allclose(moved.double(), weight * 0.5 * (x.double() @ down.T @ up.T), atol=1e-6)
        assert moved.abs().max() > 1e-3
    adapter.remove()


def test_equal_adapters_give_equal_files(base: Base, tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b", "c", "d"):  # the order of two metadata entries is right by chance half the time
        adapter = shipped.build(lora, base, seed=7, dim=2, text_encoder=True)
        adapter.save(tmp_path / f"{name}.safetensors")
        own = adapter.state_dict()
        adapter.remove()
        with safe_open(tmp_path / f"{name}.safetensors", "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            contents.append((file.metadata(), [tensor.dtype for tensor in tensors.values()]))
        assert tensors.keys() == own.keys()
        assert all(torch.equal(tensor, own[key]) for key, tensor in tensors.items())
    assert contents[0] == contents[1]
    assert len({path.read_bytes() for path in tmp_path.glob("*.safetensors")}) == 1
    assert set(contents[0][1]) == {torch.float32}


def test_first_values_depend_on_the_seed_and_the_name_alone(base: Base) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    small = shipped.build(lora, base, seed=0, dim=2, targets="attn")
    assert torch.equal(torch.get_rng_state(), before)
    first = small.state_dict()
    small.remove()
    torch.manual_seed(99)
    wide = shipped.build(lora, base, seed=0, dim=2, targets="full", text_encoder=True)
    second = wide.state_dict()
    wide.remove()
    other = shipped.build(lora, base, seed=1, dim=2, targets="attn")
    third = other.state_dict()
    other.remove()
    assert first.keys() < second.keys()
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())
    downs = [key for key in first if ".lora_A." in key]
    assert not any(torch.equal(first[key], third[key]) for key in downs)
    bound = 1 / first[downs[0]].shape[1] ** 0.5  # Kaiming-uniform with a = sqrt(5)
    assert 0.8 * bound < first[downs[0]].abs().max() <= bound


def test_two_adapters_in_one_base_do_not_touch_each_other(adapter: Adapter, base: Base) -> None:
    alone = outputs(base)
    second = shipped.build(lora, base, seed=5, dim=8, targets="full")
    assert torch.equal(outputs(base)[1], alone[1])  # an identity still
    shipped.shake(second)
    assert not torch.equal(outputs(base)[1], alone[1])
    second.set_weight(0)
    assert torch.equal(outputs(base)[1], alone[1])
    second.remove()
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(outputs(base), alone, strict=True))
    assert all(p.requires_grad for part in adapter.parameters().values() for p in part)


def test_a_file_that_does_not_fit_is_refused_whole(adapter: Adapter) -> None:
    state = adapter.state_dict()
    with pytest.raises(AdapterError, match="1 tensors missing"):
        adapter.load_state_dict(dict(list(state.items())[1:]))
    key = next(iter(state))
    zeros = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    with pytest.raises(AdapterError, match="1 tensors of other shapes"):
        adapter.load_state_dict({**zeros, key: torch.zeros(1)})
    assert all(torch.equal(tensor, state[name]) for name, tensor in adapter.state_dict().items())


def test_problems_are_listed_all_at_once() -> None:
    found = shipped.problems(lora, dim=0, alpha=0.0, dropout=1.0)
    assert [key for key, _, _ in found] == ["dim", "alpha", "dropout"] and shipped.problems(lora) == []
