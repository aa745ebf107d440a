"""A LoRA file of any trainer acts as the programs that people use make it act, or is refused with a count."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lora_readers
import pytest
import torch
from safetensors.torch import load_file, save_file

from lorasweep.components.adapters.file import describe
from lorasweep.core import registry
from lorasweep.core.errors import InputError
from lorasweep.core.kohya_names import kohya_name
from lorasweep.core.protocols import Base
from lorasweep.trial.lora_weight import lora_weight

WEIGHT = 0.7
Tensors = dict[str, torch.Tensor]
Rename = Callable[[str], str]  # unet.<module> -> the module's name in a file


def build(base: Base, path: Path) -> Any:
    return registry.load("adapter", "file").build(base, seed=0, path=str(path))


def look(base: Base) -> torch.Tensor:
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    answer: torch.Tensor = base.unet(
        noisy, torch.tensor([10, 700]), base.encode_captions(["zkw, red hair", "dress"])
    ).sample
    return answer


def plain_weights(base: Base, *, convolutions: bool = True) -> dict[str, torch.Tensor]:
    """Weights of every linear layer and convolution inside the blocks, by part and module."""
    return {
        f"{part}.{path}": module.weight.detach().double()
        for part, model in (("unet", base.unet), ("text_encoder", base.text_encoder))
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and (convolutions or module.weight.dim() == 2)
    }


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def lora(weight: torch.Tensor) -> Tensors:
    ones = [1] * (weight.dim() - 2)
    down, up = drawn(3, *weight.shape[1:]), drawn(weight.shape[0], 3, *ones)
    return {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(2.0)}


def loha(weight: torch.Tensor) -> Tensors:
    flat = weight[0].numel()
    sides = {f"hada_w{n}_{side}": size for n in (1, 2) for side, size in (("a", weight.shape[0]), ("b", flat))}
    return {
        "alpha": torch.tensor(2.0),
        **{
            key: drawn(size, 3, seed=n) if key.endswith("a") else drawn(3, size, seed=n)
            for n, (key, size) in enumerate(sides.items())
        },
    }


def lokr(weight: torch.Tensor) -> Tensors:
    outputs, inputs = weight.shape[0] // 4, weight.shape[1] // 4
    kernel = weight[0, 0].numel()
    return {
        "alpha": torch.tensor(2.0),
        "lokr_w1": drawn(4, 4),
        "lokr_w2_a": drawn(outputs, 3),
        "lokr_w2_b": drawn(3, inputs * kernel),
    }


def lokr_whole(weight: torch.Tensor) -> Tensors:
    return {
        "alpha": torch.tensor(2.0),
        "lokr_w1": drawn(4, 4),
        "lokr_w2": drawn(weight.shape[0] // 4, weight.shape[1] // 4, *weight.shape[2:]),
    }


def dora(weight: torch.Tensor) -> Tensors:
    rows = weight.flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.dim() - 1))
    return {**lora(weight), "dora_scale": (1.1 * rows).float()}


def dora_by_column(weight: torch.Tensor) -> Tensors:
    columns = weight.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, -1, *[1] * (weight.dim() - 2))
    return {**lora(weight), "dora_scale": (1.1 * columns).float()}


def ia3_in(weight: torch.Tensor) -> Tensors:
    return {"weight": drawn(weight.shape[1]), "on_input": torch.tensor(1)}


def ia3_out(weight: torch.Tensor) -> Tensors:
    return {"weight": drawn(weight.shape[0]), "on_input": torch.tensor(0)}


def full(weight: torch.Tensor) -> Tensors:
    return {"diff": drawn(*weight.shape)}


KINDS: dict[str, tuple[Callable[[torch.Tensor], Tensors], str]] = {  # made by, read by
    "lora": (lora, "comfyui"),
    "loha": (loha, "comfyui"),
    "lokr": (lokr, "comfyui"),
    "lokr whole": (lokr_whole, "comfyui"),
    "dora": (dora, "comfyui"),
    "dora by column": (dora_by_column, "a1111"),
    "ia3 in": (ia3_in, "a1111"),
    "ia3 out": (ia3_out, "a1111"),
    "full": (full, "comfyui"),
}


def write(path: Path, weights: Tensors, make: Callable[[torch.Tensor], Tensors], name: Rename = kohya_name) -> Tensors:
    tensors = {
        f"{name(module)}.{end}": tensor.contiguous()
        for module, weight in weights.items()
        for end, tensor in make(weight).items()
    }
    save_file(tensors, path)
    return tensors


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_acts_as_its_reader_says(kind: str, base: Base, tmp_path: Path) -> None:
    make, reader = KINDS[kind]
    weights = plain_weights(base, convolutions=not kind.startswith("ia3"))
    if kind.startswith(("lokr", "dora by")):  # convolutions of 4 channels in or out have no 4 x 4 blocks
        weights = {path: weight for path, weight in weights.items() if min(weight.shape[:2]) >= 16}
    tensors = write(tmp_path / "x.safetensors", weights, make)
    with torch.no_grad():
        before = look(base)
    adapter = build(base, tmp_path / "x.safetensors")
    assert set(adapter.layers) == set(weights)
    for path, weight in weights.items():
        wanted = lora_readers.READERS[reader](weight, tensors, kohya_name(path), WEIGHT)
        got = weight + WEIGHT * adapter.delta(adapter.layers[path]).double()
        assert (got - wanted).abs().max() < 1e-5 * max(1.0, wanted.abs().max().item())
    with lora_weight(base, adapter, WEIGHT):
        merged = look(base)
    with torch.no_grad():
        adapter.set_weight(WEIGHT)
        assert (look(base) - merged).abs().max() < 1e-4 * max(1.0, merged.abs().max().item())
        adapter.set_weight(0)
        assert torch.equal(look(base), before)
        adapter.remove()
        assert torch.equal(look(base), before)
    assert not (merged - before).abs().max() < 1e-3


def in_diffusers(file: Path, tiny_sd: Path) -> dict[str, torch.Tensor]:
    """What diffusers makes of each weight with the file at 0.7."""
    from diffusers import StableDiffusionPipeline
    from peft.tuners.tuners_utils import BaseTunerLayer

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, local_files_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="x")
    pipeline.set_adapters(["x"], [WEIGHT])
    found = {}
    for part in ("unet", "text_encoder"):
        for path, layer in getattr(pipeline, part).named_modules():
            if isinstance(layer, BaseTunerLayer):
                layer.merge(adapter_names=["x"])
                inner: Any = layer.get_base_layer()
                found[f"{part}.{path.removeprefix('text_model.')}"] = inner.weight.detach().double()
    return found


def check_against_diffusers(base: Base, file: Path, tiny_sd: Path) -> None:
    weights, theirs = plain_weights(base), in_diffusers(file, tiny_sd)
    adapter = build(base, file)
    assert set(adapter.layers) == set(theirs) and len(theirs) > 10
    for path, wanted in theirs.items():
        got = weights[path] + WEIGHT * adapter.delta(adapter.layers[path]).double()
        assert (got - wanted).abs().max() < 2e-6 * max(1.0, wanted.abs().max().item()), path


def from_peft(base: Base, *, text_encoder: bool) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """PEFT's own LoRA in both parts, dim 4 and alpha 2, shaken; its tensors and configs."""
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    states, configs = {}, {}
    for part, targets in (("unet", ["to_k", "to_q", "to_out.0", "conv1", "proj_in"]), ("text_encoder", ["k_proj"])):
        if part == "text_encoder" and not text_encoder:
            continue
        config = LoraConfig(r=4, lora_alpha=2, target_modules=targets)
        model = inject_adapter_in_model(config, getattr(base, part))
        states[part] = {key: drawn(*t.shape) for key, t in get_peft_model_state_dict(model).items()}
        configs[part] = config
    return states, configs


@pytest.mark.parametrize("told", [False, True], ids=["no alpha", "alpha in the metadata"])
def test_what_the_example_scripts_save(told: bool, base: Base, tiny_sd: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline
    from peft.tuners.tuners_utils import BaseTunerLayer

    states, configs = from_peft(base, text_encoder=True)
    more = {
        f"{part}_lora_adapter_metadata": {
            key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()
        }
        for part, config in configs.items()
    }
    StableDiffusionPipeline.save_lora_weights(
        str(tmp_path),
        unet_lora_layers=states["unet"],
        text_encoder_lora_layers=states["text_encoder"],
        **(more if told else {}),
    )
    for model in (base.unet, base.text_encoder):
        for path, layer in list(model.named_modules()):
            if isinstance(layer, BaseTunerLayer):
                model.set_submodule(path, layer.get_base_layer())
    check_against_diffusers(base, tmp_path / "pytorch_lora_weights.safetensors", tiny_sd)


@pytest.mark.parametrize("form", ["kohya", "kohya te1", "diffusers"])
def test_a_lora_is_what_diffusers_reads(form: str, base: Base, tiny_sd: Path, tmp_path: Path) -> None:
    rename: dict[str, Rename] = {
        "kohya": kohya_name,
        "kohya te1": lambda path: kohya_name(path).replace("lora_te_", "lora_te1_"),
        "diffusers": lambda path: path,
    }
    file = tmp_path / "x.safetensors"
    tensors = write(file, plain_weights(base), lora, rename[form])
    if form == "diffusers":
        save_file(
            {
                key.replace("lora_down", "lora_A").replace("lora_up", "lora_B"): t
                for key, t in tensors.items()
                if "alpha" not in key
            },
            file,
        )
    check_against_diffusers(base, file, tiny_sd)
