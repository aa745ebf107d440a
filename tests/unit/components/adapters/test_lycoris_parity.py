"""LoHa, LoKr and IA3 against LyCORIS itself: keys, shapes, alpha, spread of the first values, answers at 0.7.
GLoRA and OFT, which are only read: what its own files add.

Runs where lycoris-lora is installed; `test_lycoris_files` has its formulas for everybody else.
`pip install --no-deps lycoris-lora==4.1.3 einops toml` is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shipped
import torch
from fresh_bases import fresh
from safetensors.torch import load_file, save_file

from lorasweep.core import registry
from lorasweep.core.protocols import Base
from lorasweep.core.records import BaseOptions

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "loha": ("LohaModule", {"dim": 4, "alpha": 2.0, "targets": "full"}),
    "lokr": ("LokrModule", {"dim": 4, "alpha": 2.0, "targets": "full"}),
    "lokr both": ("LokrModule", {"dim": 1, "alpha": 3.0, "decompose_both": True, "factor": 4}),
    "lokr whole": ("LokrModule", {"dim": 64, "alpha": 16.0, "factor": 4}),
    "ia3": ("IA3Module", {}),
}


def reference(kind: str, name: str, layer: Any, knobs: dict[str, Any]) -> Any:
    """LyCORIS's module for the same layer, at multiplier 0.7."""
    lycoris = pytest.importorskip("lycoris.modules", reason="lycoris-lora is not installed")
    if kind == "IA3Module":
        options: dict[str, Any] = {"train_on_input": layer.on_input}
    else:
        options = {"lora_dim": knobs["dim"], "alpha": knobs["alpha"]}
    if kind == "LokrModule":
        options |= {"factor": knobs.get("factor", -1), "decompose_both": knobs.get("decompose_both", False)}
    return getattr(lycoris, kind)(name, layer.get_base_layer(), 0.7, **options)


@pytest.mark.parametrize("case", CASES)
def test_ours_is_lycoris(case: str, base: Base, tmp_path: Path) -> None:
    pytest.importorskip("lycoris", reason="lycoris-lora is not installed")
    kind, knobs = CASES[case]
    module = registry.load("adapter", case.split()[0])
    adapter = shipped.build(module, base, seed=0, text_encoder=True, **knobs)
    first = adapter.state_dict()
    generator = shipped.shake(adapter)
    adapter.save(tmp_path / "x.safetensors")
    file = load_file(tmp_path / "x.safetensors")
    adapter.set_weight(0.7)
    for path, layer in adapter.layers.items():
        name = adapter.kohya_name(path)
        own = {key.split(".", 1)[1]: tensor for key, tensor in file.items() if key.startswith(f"{name}.")}
        theirs = reference(kind, name, layer, knobs)
        state = theirs.state_dict()
        assert {key: t.shape for key, t in state.items()} == {key: t.shape for key, t in own.items()}
        for key in own.keys() & {"alpha", "on_input"}:
            assert own[key].item() == state[key].item(), f"{path}.{key}"
        for key, tensor in state.items():
            drawn = first.get(f"{path}.{key}")
            if drawn is not None and drawn.numel() > 500:
                assert drawn.std().item() == pytest.approx(tensor.std().item(), rel=0.25, abs=1e-9)
        theirs.load_state_dict(own)
        weight = layer.get_base_layer().weight
        inputs = torch.randn(2, weight.shape[1], *([6, 6] * (weight.dim() == 4)), generator=generator)
        with torch.no_grad():
            ours = layer(inputs)
            theirs.apply_to()
            answer = theirs(inputs)
            theirs.restore()
            assert (ours - layer.get_base_layer()(inputs)).abs().max() > 1e-4
        assert torch.allclose(ours, answer, atol=1e-5), path
    adapter.remove()


@pytest.mark.parametrize("kind", ["GLoRAModule", "DiagOFTModule"])
def test_files_that_it_saves_are_read_as_it_does(kind: str, base: Base, tmp_path: Path) -> None:
    lycoris = pytest.importorskip("lycoris.modules", reason="lycoris-lora is not installed")
    options = {"GLoRAModule": {"lora_dim": 4, "alpha": 2.0}, "DiagOFTModule": {"lora_dim": 4, "constraint": 0.01}}[kind]
    generator = torch.Generator().manual_seed(1)
    theirs, file = {}, {}
    for path, module in base.parts["unet"].named_modules():
        if path.endswith(("attn2.to_q", "ff.net.2", "conv1")):
            name = f"lora_unet_{path.replace('.', '_')}"
            theirs[f"unet.{path}"] = own = getattr(lycoris, kind)(name, module, 1.0, **options)
            for parameter in own.parameters():
                parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
            file |= {f"{name}.{key}": tensor for key, tensor in own.state_dict().items()}
    save_file(file, tmp_path / "x.safetensors")
    adapter = registry.load("adapter", "file").build(base, seed=0, path=str(tmp_path / "x.safetensors"))
    assert set(adapter.layers) == set(theirs) and len(theirs) > 4
    for path, own in theirs.items():
        wanted = own.get_diff_weight()[0].reshape(own.org_weight.shape)
        assert wanted.abs().max() > 1e-3
        assert torch.allclose(adapter.delta(adapter.layers[path]), wanted, atol=1e-5), path
    adapter.remove()


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LokrModule", {"lora_dim": 4, "alpha": 2.0}),
        ("LokrModule", {"lora_dim": 1, "alpha": 3.0, "decompose_both": True, "factor": 4}),
        ("LokrModule", {"lora_dim": 100, "alpha": 16.0, "factor": 4}),
        ("GLoRAModule", {"lora_dim": 4, "alpha": 2.0}),
        ("LohaModule", {"lora_dim": 4, "alpha": 2.0}),
    ],
)
def test_files_of_modules_that_are_several_here_are_read_as_it_does(
    kind: str, options: dict[str, Any], tiny_flow: Callable[[str], Path], tmp_path: Path
) -> None:
    """kohya's FLUX.1 has one module where diffusers has queries, keys, values and a single block's MLP."""
    lycoris = pytest.importorskip("lycoris.modules", reason="lycoris-lora is not installed")
    base = fresh(BaseOptions(name="flux1_dev", path=str(tiny_flow("flux1_dev")), resolution=32, bucket_step=8))
    weights = {path: module.weight for path, module in base.parts["transformer"].named_modules()
               if isinstance(module, torch.nn.Linear)}  # fmt: skip
    generator, file, wanted = torch.Generator().manual_seed(1), {}, {}
    for theirs, ours in (
        ("double_blocks_0_txt_attn_qkv", [f"transformer_blocks.0.attn.add_{one}_proj" for one in "qkv"]),
        ("single_blocks_0_linear1", [f"single_transformer_blocks.0.{one}" for one in
                                     ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]),
    ):  # fmt: skip
        sizes = [len(weights[path]) for path in ours]
        fused = torch.nn.Linear(weights[ours[0]].shape[1], sum(sizes))
        fused.weight.copy_(torch.cat([weights[path] for path in ours]))
        own = getattr(lycoris, kind)(f"lora_unet_{theirs}", fused, 1.0, **options)
        for parameter in own.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
        file |= {f"lora_unet_{theirs}.{key}": tensor for key, tensor in own.state_dict().items()}
        ones = torch.eye(fused.in_features)
        plain = fused(ones)
        own.apply_to()
        moved = (own(ones) - plain).T.split(sizes)
        wanted |= {f"transformer.{path}": rows for path, rows in zip(ours, moved, strict=True)}
    save_file(file, tmp_path / "x.safetensors")
    adapter = registry.load("adapter", "file").build(base, seed=0, path=str(tmp_path / "x.safetensors"))
    assert adapter.layers.keys() == wanted.keys()
    for path, rows in wanted.items():
        assert rows.abs().max() > 1e-3
        assert torch.allclose(adapter.delta(adapter.layers[path]), rows, atol=1e-5), path
