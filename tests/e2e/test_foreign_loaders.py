"""Exported files read by the code of the programs that draw with them, where a checkout of it is at hand.

    COMFYUI=path/to/ComfyUI SD_SCRIPTS=path/to/sd-scripts python -m pytest -m slow tests/e2e/test_foreign_loaders.py

Of ComfyUI the loader of LoRA files runs as it is, on the weights of a tiny base under Stability's names; what it would
import for other model families is stood in for. Of sd-scripts, the network that it builds from a file for SDXL.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from effective_weight import effective_weight
from run_folders import write_run
from safetensors.torch import load_file
from shipped import build, shake
from tiny_checkpoint import unet_name
from tiny_training import make_recipe

from lorasweep.cli import main
from lorasweep.components.adapters._targets import find_targets
from lorasweep.components.bases import sdxl
from lorasweep.components.bases._scopes import UNET_SCOPES
from lorasweep.core import registry
from lorasweep.core.kohya_names import OWN, kohya_name, own_name
from lorasweep.core.records import BaseOptions, Component

KINDS: dict[str, dict[str, Any]] = {
    "lora": {"dim": 4, "alpha": 2.0},
    "locon": {"dim": 4, "alpha": 2.0, "conv_dim": 2, "conv_alpha": 3.0},
    "dylora": {"dim": 8, "alpha": 4.0, "unit": 4, "targets": "full"},
    "loha": {"dim": 4, "alpha": 2.0},
    "lokr": {"dim": 4, "alpha": 2.0},
    "dora": {"dim": 4, "alpha": 2.0},
    "ia3": {},
}


pytestmark = pytest.mark.slow

# Where the tiny bases' transformers are, as ComfyUI's own detection would count them.
DEPTHS = {
    "sd1": {"transformer_depth": [1, 0], "transformer_depth_middle": 1, "transformer_depth_output": [1, 1, 0, 0]},
    "sdxl": {"transformer_depth": [0, 2], "transformer_depth_middle": 2, "transformer_depth_output": [0, 0, 2, 2]},
}


@pytest.fixture
def comfyui(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module `comfy.lora` of the checkout in COMFYUI."""
    if "COMFYUI" not in os.environ:
        pytest.skip("needs COMFYUI=path of a checkout")
    monkeypatch.syspath_prepend(os.environ["COMFYUI"])
    if not find_spec("einops"):
        stand_in("einops", monkeypatch)
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    comfy.model_base = stand_in("comfy.model_base", monkeypatch)
    import comfy.lora

    yield comfy.lora
    for name in [each for each in sys.modules if each.split(".")[0] == "comfy"]:
        del sys.modules[name]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_comfyui_moves_every_weight_as_the_adapter_does(
    family: str, kind: str, comfyui: Any, tiny_sd: Path, tiny_sdxl: Path, home: Path
) -> None:
    knobs = {**KINDS[kind], "text_encoder": True}
    recipe = make_recipe(tiny_sd, adapter=Component(name=kind, options=knobs))
    if family == "sdxl":
        options = BaseOptions(name="sdxl", path=str(tiny_sdxl), resolution=32, bucket_step=8)
        recipe = dataclasses.replace(recipe, base=options)
    base = registry.load("base", recipe.base.name).load(recipe.base, device="cpu", precision="fp32")
    adapter = build(registry.load("adapter", kind), base, seed=0, **knobs)
    shake(adapter)
    write_run(home / "outputs" / "sweep" / "0000-a-s0", recipe, home / "images", adapter)
    assert main(["export", "sweep/0000-a-s0", "--for", "comfyui", "--out", str(home / "x.safetensors")]) == 0

    live = {theirs(family, part, name): layer for part, name, layer in adapted(base)}
    weights = {key: layer.get_base_layer().weight.detach() for key, layer in live.items()}
    config = {"num_res_blocks": [1, 1], "channel_mult": (1, 2), **DEPTHS[family]}
    model = SimpleNamespace(state_dict=lambda: weights, model_config=SimpleNamespace(unet_config=config))
    keys = comfyui.model_lora_keys_clip(model, comfyui.model_lora_keys_unet(model, {}))
    patches = comfyui.load_lora(load_file(home / "x.safetensors"), keys)

    assert patches.keys() == weights.keys()
    adapter.set_weight(0.7)
    for key, layer in live.items():
        moved = comfyui.calculate_weight([(0.7, patches[key], 1.0, None, None)], weights[key].clone(), key)
        wanted = effective_weight(layer).detach().reshape(moved.shape)
        assert not torch.allclose(moved, weights[key], atol=1e-4), key
        torch.testing.assert_close(moved, wanted, atol=2e-5, rtol=1e-4, msg=key)


# What ComfyUI's detection would find in the tiny transformers, and the class of its model.
FLOW: dict[str, tuple[str, dict[str, int]]] = {
    "flux1_dev": ("Flux", {"depth": 1, "depth_single_blocks": 2, "hidden_size": 64}),
    "chroma": ("Flux", {"depth": 1, "depth_single_blocks": 2, "hidden_size": 64}),
    "sd35": ("SD3", {"depth": 2}),
    "qwen_image": ("QwenImage", {}),
    "anima": ("Anima", {}),
    "flux2_klein": ("Flux", {"depth": 1, "depth_single_blocks": 2, "hidden_size": 64}),
    "z_image": ("Lumina2", {"n_layers": 2, "n_refiner_layers": 1, "dim": 64}),
    "krea2": ("Krea2", {"layers": 2}),
    "ernie_image": ("ErnieImage", {}),
    "lumina2": ("Lumina2", {}),
}
# Known to ComfyUI since 2026: what its code has of them.
NEW = {"flux2_klein": "attn.to_qkv_mlp_proj", "z_image": "z_image_to_diffusers", "krea2": "Krea2"}


@pytest.mark.parametrize("name", FLOW)
def test_comfyui_moves_every_weight_of_a_transformer(
    name: str, comfyui: Any, tiny_flow: Callable[[str], Path], home: Path
) -> None:
    """Where its own weights are fused, the part that is ours: none of its readers says what it left out."""
    code = "".join(Path(module.__file__).read_text() for module in (comfyui, comfyui.comfy.utils))
    if NEW.get(name, "") not in code:
        pytest.skip(f"this checkout is older than ComfyUI's {name}")
    knobs = {"dim": 4, "alpha": 2.0, "targets": "full"}
    options = BaseOptions(name=name, path=str(tiny_flow(name)), resolution=32, bucket_step=8)
    recipe = make_recipe(tiny_flow(name), adapter=Component(name="lora", options=knobs))
    recipe = dataclasses.replace(recipe, base=options)
    base = registry.load("base", name).load(options, device="cpu", precision="fp32")
    adapter = build(registry.load("adapter", "lora"), base, seed=0, **knobs)
    shake(adapter)
    write_run(home / "outputs" / "sweep" / "0000-a-s0", recipe, home / "images", adapter)
    assert main(["export", "sweep/0000-a-s0", "--for", "comfyui", "--out", str(home / "x.safetensors")]) == 0

    layers = {inner: layer for _, inner, layer in adapted(base)}
    own = {inner: f"transformer.{inner}" for inner in layers}
    if name in OWN:
        own = {inner: own_name(path, name) for inner, path in own.items()}
    kind, config = FLOW[name]
    model = getattr(comfyui.comfy.model_base, kind)()
    model.model_config = SimpleNamespace(unet_config=config)
    model.state_dict = lambda: {f"diffusion_model.{key.partition('.')[2]}.weight": None for key in own.values()}
    keys = comfyui.model_lora_keys_unet(model, {})
    patches = comfyui.load_lora(load_file(home / "x.safetensors"), keys)

    adapter.set_weight(0.7)
    held: dict[str, list[Any]] = {}  # of Lumina 2 queries, keys and values, one after another
    for inner, layer in layers.items():
        held.setdefault(own[inner], []).append(layer)
    assert len(patches) == len(held) and (name == "lumina2" or len(held) == len(layers))
    for inner, parts in held.items():
        key, part, change = (*([found] if isinstance(found := keys[inner], str) else found), None, None)[:3]
        plain = torch.cat([layer.get_base_layer().weight.detach() for layer in parts])
        wanted = torch.cat([effective_weight(layer).detach() for layer in parts])
        _, start, length = part or (0, 0, len(plain))
        fused = torch.zeros(start + length, *plain.shape[1:])
        fused[start:] = change(plain) if change else plain
        moved = comfyui.calculate_weight([(0.7, patches[found], 1.0, part, change)], fused.clone(), key)
        assert not torch.allclose(moved[start:], fused[start:], atol=1e-4), inner
        torch.testing.assert_close(moved[start:], change(wanted) if change else wanted, atol=2e-5, rtol=1e-4, msg=inner)
        assert (moved[:start] == 0).all()


def stand_in(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Have a module be imported that nothing is asked of: whatever is taken from it is an empty class."""

    def taken(wanted: str) -> type:
        if wanted.startswith("__"):  # torch looks for the files of all modules
            raise AttributeError(wanted)
        return vars(module).setdefault(wanted, type(wanted, (), {}))

    module = ModuleType(name)
    module.__getattr__ = taken  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, name, module)
    return module


def adapted(base: Any) -> Iterator[tuple[str, str, Any]]:
    """Part, name and module of each layer that an adapter sits on."""
    for part, module in base.parts.items():
        for name, layer in module.named_modules():
            if hasattr(layer, "get_base_layer"):
                yield part, name, layer


def theirs(family: str, part: str, name: str) -> str:
    """What ComfyUI calls the weight of a module."""
    if part == "unet":
        return f"diffusion_model.{unet_name(f'{name}.weight', attended=family == 'sdxl')}"
    letter = "l" if part == "text_encoder" else "g"
    return f"clip_{letter}.transformer.text_model.{name.removeprefix('text_model.')}.weight"


def test_kohyas_network_for_sdxl_finds_a_module_for_every_name_and_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    if "SD_SCRIPTS" not in os.environ:
        pytest.skip("needs SD_SCRIPTS=path of a checkout")
    # Before torchvision seems to be there, which both would ask for.
    from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, UNet2DConditionModel  # noqa: F401
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    monkeypatch.syspath_prepend(os.environ["SD_SCRIPTS"])
    for name in ("einops", "cv2", "torchvision"):
        if not find_spec(name):
            stand_in(name, monkeypatch)
    from library.sdxl_original_unet import SdxlUNet2DConditionModel
    from networks.lora import create_network_from_weights

    configs = Path(sdxl.__file__).parent / "sdxl_configs"
    with torch.device("meta"):
        first = CLIPTextModel(CLIPTextConfig.from_pretrained(configs / "text_encoder"))
        second = CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(configs / "text_encoder_2"))
        parts = {
            "unet": UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(configs / "unet")),
            "text_encoder": first,
            "text_encoder_2": second,
        }
        their_unet = SdxlUNet2DConditionModel()
    tensors = {}
    for part, module in parts.items():
        for name in find_targets(module, UNET_SCOPES["full" if part == "unet" else "attn-mlp"]):
            weight = module.get_submodule(name).weight
            key, area = kohya_name(f"{part}.{name}", parts=parts), weight.shape[2:]
            tensors[f"{key}.lora_down.weight"] = torch.zeros(2, weight.shape[1], *area)
            tensors[f"{key}.lora_up.weight"] = torch.zeros(weight.shape[0], 2, *(1 for _ in area))
            tensors[f"{key}.alpha"] = torch.tensor(1.0)
    older = torch.nn.Module()  # sd-scripts' transformers kept this encoder's layers one level down
    older.text_model = first
    network, tensors = create_network_from_weights(1.0, None, None, [older, second], their_unet, weights_sd=tensors)
    network.apply_to([older, second], their_unet)
    read = network.load_state_dict(tensors, strict=False)
    assert len(network.unet_loras) == 788 and len(network.text_encoder_loras) == 72 + 192
    assert (read.missing_keys, read.unexpected_keys) == ([], [])
