"""Files of LoHa, LoKr and IA3, read as the UIs' loaders read them: keys, scale, the weight that they add."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import shipped
import torch
from safetensors.torch import load_file

from lorasweep.components.adapters import lokr
from lorasweep.core import registry
from lorasweep.core.protocols import Base

CASES: dict[str, dict[str, Any]] = {
    "loha": {"dim": 4, "alpha": 2.0, "targets": "full"},
    "lokr": {"dim": 2, "alpha": 1.0, "targets": "full"},
    "lokr both": {"dim": 1, "alpha": 3.0, "decompose_both": True, "factor": 4},
    "lokr whole": {"dim": 64, "alpha": 16.0, "factor": 4},
    "ia3": {},
}


def difference(file: dict[str, torch.Tensor], name: str, weight: torch.Tensor) -> torch.Tensor:
    """What a loader adds to `weight` at strength 1.

    Source: ComfyUI, comfy/weight_adapter/{loha,lokr}.py; A1111, extensions-builtin/Lora/network_ia3.py.
    """
    found = {key.removeprefix(f"{name}."): t for key, t in file.items() if key.startswith(f"{name}.")}
    if "hada_w1_a" in found:
        product = (found["hada_w1_a"] @ found["hada_w1_b"]) * (found["hada_w2_a"] @ found["hada_w2_b"])
        return (found["alpha"] / found["hada_w1_b"].shape[0] * product).reshape(weight.shape)
    if "on_input" in found:
        return weight * (found["weight"] if found["on_input"] else found["weight"].reshape(-1, 1))
    dim, sides = None, []
    for side in ("lokr_w1", "lokr_w2"):
        if side in found:
            sides.append(found[side])
        else:
            dim = found[f"{side}_b"].shape[0]
            sides.append(found[f"{side}_a"] @ found[f"{side}_b"])
    small, large = sides
    if large.dim() == 4:
        small = small.unsqueeze(2).unsqueeze(2)
    scale = found["alpha"] / dim if dim is not None else 1.0
    return (torch.kron(small, large) * scale).reshape(weight.shape)


@pytest.mark.parametrize("case", CASES)
def test_a_ui_adds_to_every_module_what_ours_adds(case: str, base: Base, tmp_path: Path) -> None:
    module = registry.load("adapter", case.split()[0])
    adapter = shipped.build(module, base, seed=0, text_encoder=True, **CASES[case])
    generator = shipped.shake(adapter)
    adapter.save(tmp_path / "adapter.safetensors")
    file = load_file(tmp_path / "adapter.safetensors")
    seen = set()
    for path, layer in adapter.layers.items():
        part, module = path.split(".", 1)
        prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}[part]
        name = prefix + module.removeprefix("text_model.").replace(".", "_")
        plain = layer.get_base_layer()
        added = difference(file, name, plain.weight.detach())
        assert added.abs().max() > 1e-4
        shape = (1, plain.weight.shape[1], *([6, 6] if plain.weight.dim() == 4 else []))
        inputs = torch.randn(shape, generator=generator)
        with torch.no_grad():
            for weight in (0.7, 1.0):
                adapter.set_weight(weight)
                ours = layer(inputs)
                merged = torch.func.functional_call(plain, {"weight": plain.weight + weight * added}, (inputs,))
                assert torch.allclose(ours, merged, atol=2e-5), path
        seen |= {key for key in file if key.startswith(f"{name}.")}
    assert seen == file.keys()
    adapter.remove()


def test_a_lokr_without_a_rank_has_no_scale(base: Base) -> None:
    """LyCORIS sets alpha to dim when both sides are whole, and loaders leave such a product alone."""
    adapter: Any = shipped.build(lokr, base, seed=0, dim=64, alpha=4.0, factor=4)
    assert {layer.scaling[adapter.name] for layer in adapter.layers.values()} == {1.0}
    adapter.remove()
    adapter = shipped.build(lokr, base, seed=0, dim=2, alpha=1.0)
    assert {layer.scaling[adapter.name] for layer in adapter.layers.values()} == {0.5}
    adapter.remove()


def test_problems_name_the_knob() -> None:
    found = shipped.problems(lokr, dim=0, alpha=0.0, factor=0)
    assert [key for key, _, _ in found] == ["dim", "alpha", "factor"]
    assert shipped.problems(lokr) == []
