"""A LoRA file of any trainer acts as the programs that people use make it act, or is refused with a count."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lora_readers
import pytest
import torch
from safetensors.torch import save_file

from lorasweep.components.adapters import files
from lorasweep.components.adapters.file import changes_nothing, describe, problems_with, unreadable
from lorasweep.core import kohya_names, registry
from lorasweep.core.errors import InputError
from lorasweep.core.protocols import Base, Mergeable, TellsChanges
from lorasweep.trial.lora_weight import lora_weight

WEIGHT = 0.7
Tensors = dict[str, torch.Tensor]
Rename = Callable[[str], str]  # unet.<module> -> the module's name in a file


def build(base: Base, path: Path) -> Any:
    return registry.load("adapter", "file").build(base, seed=0, path=str(path))


def kohya_name(path: str) -> str:
    return kohya_names.kohya_name(path, parts=())


def look(base: Base) -> torch.Tensor:
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    answer: torch.Tensor = base.parts["unet"](
        noisy, torch.tensor([10, 700]), base.encode_captions(["zkw, red hair", "dress"])["embeds"]
    ).sample
    return answer


def plain_weights(base: Base, *, convolutions: bool = True) -> dict[str, torch.Tensor]:
    """Weights of every linear layer and convolution inside the blocks, by part and module."""
    return {
        f"{part}.{path}": module.weight.detach().double()
        for part, model in base.parts.items()
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


def glora(weight: torch.Tensor) -> Tensors:
    ones = [1] * (weight.dim() - 2)
    return {
        "alpha": torch.tensor(2.0),
        "a1.weight": drawn(weight.shape[1], 3, *ones),
        "a2.weight": drawn(3, weight.shape[1], *ones),
        "b1.weight": drawn(weight.shape[0], 3, *ones),
        "b2.weight": drawn(3, *weight.shape[1:]),
    }


def glora_of_lycoris_2(weight: torch.Tensor) -> Tensors:
    return {key.translate({ord("1"): "2", ord("2"): "1"}): tensor for key, tensor in glora(weight).items()}


def oft(weight: torch.Tensor, alpha: float = 0.0) -> Tensors:
    return {
        "alpha": torch.tensor(alpha),
        "oft_blocks": drawn(weight.shape[0] // 4, 4, 4),
        "rescale": 1 + drawn(weight.shape[0], *[1] * (weight.dim() - 1)),
    }


def oft_bounded(weight: torch.Tensor) -> Tensors:
    return oft(weight, alpha=0.01)


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
    "glora": (glora, "comfyui"),
    "glora of lycoris 2": (glora_of_lycoris_2, "comfyui"),
    "oft": (oft, "a1111"),
    "oft bounded": (oft_bounded, "a1111"),
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


def check_against_diffusers(base: Base, file: Path, tiny_sd: Path) -> None:
    weights, theirs = plain_weights(base), lora_readers.in_diffusers(file, tiny_sd, WEIGHT)
    adapter = build(base, file)
    assert set(adapter.layers) == set(theirs) and len(theirs) > 10
    for path, wanted in theirs.items():
        got = weights[path] + WEIGHT * adapter.delta(adapter.layers[path]).double()
        assert (got - wanted).abs().max() < 2e-6 * max(1.0, wanted.abs().max().item()), path


def from_peft(base: Base, *, text_encoder: bool, **fields: Any) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """PEFT's own LoRA in both parts, dim 4 and alpha 2, shaken; its tensors and configs."""
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    states, configs = {}, {}
    for part, targets in (("unet", ["to_k", "to_q", "to_out.0", "conv1", "proj_in"]), ("text_encoder", ["k_proj"])):
        if part == "text_encoder" and not text_encoder:
            continue
        config = LoraConfig(r=4, lora_alpha=2, target_modules=targets, **fields)
        model = inject_adapter_in_model(config, base.parts[part])
        states[part] = {key: drawn(*t.shape) for key, t in get_peft_model_state_dict(model).items()}
        configs[part] = config
    return states, configs


@pytest.mark.parametrize(
    ("told", "fields"),
    [
        (False, {}),
        (True, {}),
        (True, {"alpha_pattern": {"to_q": 5, "attn1.to_q": 3, "conv1": 1}}),  # of several endings the first counts
        (True, {"use_rslora": True}),
    ],
    ids=["no alpha", "alpha in the metadata", "alphas by module", "rank-stabilized"],
)
def test_what_the_example_scripts_save(
    told: bool, fields: dict[str, Any], base: Base, tiny_sd: Path, tmp_path: Path
) -> None:
    from diffusers import StableDiffusionPipeline
    from peft.tuners.tuners_utils import BaseTunerLayer

    states, configs = from_peft(base, text_encoder=True, **fields)
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
    for model in base.parts.values():
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


OURS = {
    "lora": {"dim": 4, "alpha": 2.0, "targets": "full", "dropout": 0.0},
    "locon": {"dim": 4, "alpha": 2.0, "conv_dim": 2, "conv_alpha": 3.0, "dropout": 0.0, "force": False},
    "dora": {"dim": 4, "alpha": 2.0, "targets": "full", "dropout": 0.0},
    "dylora": {"dim": 4, "alpha": 2.0, "unit": 2, "targets": "full"},
    "loha": {"dim": 4, "alpha": 2.0, "targets": "full"},
    "lokr": {"dim": 4, "alpha": 2.0, "factor": -1, "decompose_both": False, "targets": "full"},
    "ia3": {},
}


@pytest.mark.parametrize("kind", OURS)
def test_what_a_trial_keeps_acts_as_it_did(kind: str, base: Base, tmp_path: Path) -> None:
    ours = registry.load("adapter", kind).build(base, seed=0, text_encoder=True, **OURS[kind])
    for seed, parameter in enumerate(each for part in ours.parameters().values() for each in part):
        parameter.data += drawn(*parameter.shape, seed=seed)
    ours.save(tmp_path / "x.safetensors")
    with lora_weight(base, ours, WEIGHT):
        wanted = look(base)
    ours.remove()
    adapter = build(base, tmp_path / "x.safetensors")
    with lora_weight(base, adapter, WEIGHT):
        assert (look(base) - wanted).abs().max() < 1e-5 * max(1.0, wanted.abs().max().item())
    adapter.save(tmp_path / "copy.safetensors")
    assert (tmp_path / "copy.safetensors").read_bytes() == (tmp_path / "x.safetensors").read_bytes()
    state = adapter.state_dict()
    adapter.load(tmp_path / "copy.safetensors")
    assert all(torch.equal(tensor, state[key]) for key, tensor in adapter.state_dict().items())


ORIGINAL = {  # of the tiny UNet, whose blocks have one layer each, by hand
    "unet.down_blocks.0.attentions.0.proj_in": "input_blocks.1.1.proj_in",
    "unet.down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "unet.down_blocks.1.resnets.0.time_emb_proj": "input_blocks.3.0.emb_layers.1",
    "unet.mid_block.resnets.1.conv2": "middle_block.2.out_layers.3",
    "unet.up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
    "unet.up_blocks.1.resnets.1.conv_shortcut": "output_blocks.3.0.skip_connection",
}
WRITTEN_AS: dict[str, Rename] = {
    "comfyui": lambda path: path.replace("unet.", "diffusion_model.").replace(
        "text_encoder.", "text_encoders.clip_l.transformer.text_model."
    ),
    "simpletuner": lambda path: "lycoris_" + path.split(".", 1)[1].replace(".", "_"),
    "bare": lambda path: path.split(".", 1)[1],
    "peft": lambda path: f"base_model.model.{path.split('.', 1)[1]}",
    "onetrainer": lambda path: path.replace("text_encoder.", "text_encoder.text_model."),
}


@pytest.mark.parametrize("form", WRITTEN_AS)
def test_names_of_other_programs(form: str, base: Base, tmp_path: Path) -> None:
    weights = plain_weights(base)
    write(tmp_path / "x.safetensors", weights, lora, WRITTEN_AS[form])
    assert set(build(base, tmp_path / "x.safetensors").layers) == set(weights)


@pytest.mark.parametrize("dotted", [True, False], ids=["diffusion_model", "lora_unet"])
def test_names_of_the_original_code(dotted: bool, base: Base, tmp_path: Path) -> None:
    weights = {path: weight for path, weight in plain_weights(base).items() if path in ORIGINAL}

    def name(path: str) -> str:
        inner = ORIGINAL[path]
        return f"diffusion_model.{inner}" if dotted else f"lora_unet_{inner.replace('.', '_')}"

    write(tmp_path / "x.safetensors", weights, lora, name)
    assert set(build(base, tmp_path / "x.safetensors").layers) == set(ORIGINAL)


def test_attention_processors_of_old_diffusers(base: Base, tmp_path: Path) -> None:
    root = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    tensors = {}
    for old, now in (("to_q", "to_q"), ("to_out", "to_out.0")):
        made = lora(plain_weights(base)[f"{root}.{now}"])
        tensors[f"{root}.processor.{old}_lora.down.weight"] = made["lora_down.weight"]
        tensors[f"{root}.processor.{old}_lora.up.weight"] = made["lora_up.weight"]
    save_file(tensors, tmp_path / "x.safetensors")
    assert set(build(base, tmp_path / "x.safetensors").layers) == {f"{root}.to_q", f"{root}.to_out.0"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_storage(dtype: torch.dtype, base: Base, tmp_path: Path) -> None:
    weights = plain_weights(base)
    tensors = write(tmp_path / "x.safetensors", weights, lora)
    stored = {key: tensor.to(dtype) for key, tensor in tensors.items()}
    save_file(stored, tmp_path / "x.safetensors")
    adapter = build(base, tmp_path / "x.safetensors")
    rounded = {key: tensor.float() for key, tensor in stored.items()}
    for path, weight in weights.items():
        wanted = lora_readers.comfyui(weight, rounded, kohya_name(path), 1.0) - weight
        assert (adapter.delta(adapter.layers[path]) - wanted).abs().max() < 1e-5


def test_norms_and_biases_are_moved_too(base: Base, tmp_path: Path) -> None:
    tensors = {
        "lora_unet_conv_norm_out.w_norm": drawn(32),
        "lora_unet_conv_norm_out.b_norm": drawn(32, seed=1),
        "lora_unet_conv_out.diff": drawn(4, 32, 3, 3),
        "lora_unet_conv_out.diff_b": drawn(4),
    }
    save_file(tensors, tmp_path / "x.safetensors")
    adapter = build(base, tmp_path / "x.safetensors")
    with torch.no_grad():
        adapter.set_weight(WEIGHT)
        hooked = look(base)
        adapter.set_weight(1)
        with lora_weight(base, adapter, WEIGHT):
            merged = look(base)
        adapter.remove()
        for key, tensor in tensors.items():
            module = base.parts["unet"].conv_norm_out if "norm" in key else base.parts["unet"].conv_out
            (module.bias if key.endswith(("b_norm", "diff_b")) else module.weight).data += WEIGHT * tensor
        wanted = look(base)
    assert (hooked - wanted).abs().max() < 1e-4 and (merged - wanted).abs().max() < 1e-4


def test_tucker_products(base: Base, tmp_path: Path) -> None:
    """A core of r x r x 3 x 3 between two matrices, by LyCORIS's formula written out as loops over r."""
    weight = base.parts["unet"].mid_block.resnets[0].conv1.weight
    up, down, mid = drawn(weight.shape[0], 2, 1, 1), drawn(2, weight.shape[1], 1, 1), drawn(2, 2, 3, 3)
    ends = {"lora_up.weight": up, "lora_down.weight": down, "lora_mid.weight": mid, "alpha": torch.tensor(1.0)}
    save_file({f"lora_unet_mid_block_resnets_0_conv1.{end}": t for end, t in ends.items()}, tmp_path / "x.safetensors")
    (layer,) = (adapter := build(base, tmp_path / "x.safetensors")).layers.values()
    wanted = torch.zeros_like(weight)
    for i in range(2):
        for j in range(2):
            wanted += 0.5 * up[:, i].reshape(-1, 1, 1, 1) * mid[i, j] * down[j].reshape(1, -1, 1, 1)
    assert (adapter.delta(layer) - wanted).abs().max() < 1e-6
    assert describe(tmp_path / "x.safetensors").kinds == {"locon": 1}, "its kernel is the core's"


IDLE: dict[str, tuple[Tensors, str]] = {  # a module's tensors, and those that are zeros before training
    "lora": (lora(torch.ones(64, 32)), "lora_up.weight"),
    "loha": (loha(torch.ones(64, 32)), "hada_w2_a"),
    "lokr": (lokr(torch.ones(64, 32)), "lokr_w2_b"),
    "full": ({"diff": drawn(64, 32)}, "diff"),
    "ia3": ({"weight": drawn(64), "on_input": torch.tensor(False)}, "weight"),
}


@pytest.mark.parametrize("kind", IDLE)
def test_a_file_changes_nothing_where_no_module_of_it_does(kind: str, tmp_path: Path) -> None:
    moved, zeros = IDLE[kind]
    idle = {**moved, zeros: torch.zeros_like(moved[zeros])}
    for name, modules in {"idle": (idle, idle), "half": (idle, moved), "moved": (moved, moved)}.items():
        tensors = {f"m{n}.{end}": each.clone() for n, module in enumerate(modules) for end, each in module.items()}
        save_file(tensors, tmp_path / f"{name}.safetensors")
        assert changes_nothing(tmp_path / f"{name}.safetensors") == (name == "idle")


def test_describe(base: Base, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    tensors = write(file, plain_weights(base), lora)
    told = {"ss_steps": "1500", "ss_epoch": "4", "ss_tag_frequency": json.dumps({"10_zkw": {"zkw": 9, "hat": 2}})}
    save_file(tensors, file, metadata=told)
    found = describe(file)
    assert found.steps == 1500 and found.epoch == 4 and found.tag_frequency == {"10_zkw": {"zkw": 9, "hat": 2}}
    assert set(found.kinds) == {"lora", "locon"} and set(found.dims) == {3} and found.text_encoder
    save_file(tensors, file, metadata={"ss_steps": "many", "ss_tag_frequency": "[["})
    assert (describe(file).steps, describe(file).tag_frequency) == (None, {})


def test_a_base_is_told_apart_by_headers_alone(base: Base, tmp_path: Path) -> None:
    weights = plain_weights(base)
    shapes = {path: tuple(weight.shape) for path, weight in weights.items()}
    write(tmp_path / "x.safetensors", weights, lora)
    assert problems_with(tmp_path / "x.safetensors", shapes) == []
    save_file(pair(Q, 2048), tmp_path / "x.safetensors")
    (problem,) = problems_with(tmp_path / "x.safetensors", shapes)
    width = next(shape[1] for path, shape in shapes.items() if path.endswith("attn2.to_v"))
    told = f"this is a LoRA of SDXL; the base is a model with text embeddings of width {width}: 1 of 1 modules"
    assert told in problem.message


def header(listed: Any, body: bytes = b"") -> bytes:
    text = listed if isinstance(listed, bytes) else json.dumps(listed).encode()
    return len(text).to_bytes(8, "little") + text + body


Q = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"


def pair(name: str, inputs: int = 32, outputs: int = 64) -> Tensors:
    return {f"{name}.lora_down.weight": drawn(2, inputs), f"{name}.lora_up.weight": drawn(outputs, 2)}


BROKEN: dict[str, tuple[bytes | Tensors, str]] = {
    "empty": (b"", "empty"),
    "pickle": (b"\x80\x02}q\x00.", "a pickle"),
    "zip": (b"PK\x03\x04 archive/data.pkl", "a pickle"),
    "web page": (b"<!DOCTYPE html><html>", "a web page"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
    "huge header": ((1 << 60).to_bytes(8, "little") + b"{}", "not that of a safetensors"),
    "torn header": ((500).to_bytes(8, "little") + b'{"a": ', "torn"),
    "torn body": (header({"a.alpha": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}), "torn"),
    "nested header": (header(b"[" * 200_000), "not that of a safetensors"),
    "not an object": (header([1, 2]), "not that of a safetensors"),
    "no tensors": (header({}), "without tensors"),
    "shape lies": (
        header(
            {
                f"{Q}.{end}": {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4]}
                for at, (end, shape) in zip(
                    (0, 4), (("lora_down.weight", [2, 32]), ("lora_up.weight", [64, 2])), strict=True
                )
            },
            b"\0" * 8,
        ),
        "cannot be read",
    ),
    "a checkpoint": ({"model.diffusion_model.out.2.weight": drawn(4, 32, 3, 3)}, "1 of 1 keys are no LoRA's"),
    "half a product": ({f"{Q}.lora_down.weight": drawn(2, 32)}, "1 of 1 keys"),
    "boft": ({f"{Q}.oft_blocks": drawn(2, 2, 4, 4)}, "of BOFT, which is not read"),
    "peft's oft": ({f"{Q}.oft_R.weight": drawn(2, 6)}, "of PEFT's OFT, which is not read"),
    "oft of another": ({f"{Q}.oft_blocks": drawn(3, 4, 4)}, "have other shapes than here"),
    "glora of another": (
        {f"{Q}.{end}.weight": drawn(*s) for end, s in {"a1": (8, 2), "a2": (2, 8), "b1": (8, 2), "b2": (2, 9)}.items()},
        "have other shapes than here",
    ),
    "quantised": ({key: t.to(torch.int8) for key, t in pair(Q).items()}, "stored as I8"),
    "sdxl": (pair(Q, 2048) | pair("lora_te2_text_model_encoder_layers_0_self_attn_k_proj"), "a LoRA of SDXL; the base"),
    "sd 1.5": (pair(Q, 768), "a LoRA of Stable Diffusion 1.x; the base"),
    "a text model": (pair("base_model.model.model.layers.0.self_attn.q_proj"), "1 of 1 modules are not in this base"),
    "flux": (pair("transformer.single_transformer_blocks.0.attn.to_q"), "a LoRA of FLUX"),
    "another module": (pair(Q) | pair("lora_unet_down_blocks_7_x"), "1 of 2 modules are not in this base"),
    "twice": (pair(Q) | pair("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"), "named twice"),
    "nan": ({key: t * float("nan") for key, t in pair(Q).items()}, "2 of 2 tensors hold NaN"),
    "escapes": (pair("lora_unet_\x1b[2J\u202eevil"), "\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}evil"),
    "no rank": (
        {f"{Q}.lora_down.weight": drawn(0, 32), f"{Q}.lora_up.weight": drawn(64, 0), f"{Q}.alpha": torch.tensor(1.0)},
        "3 of 3 keys are no LoRA's",
    ),
    "bias of none": (pair(Q) | {f"{Q}.diff_b": drawn(64)}, "none in this base"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_judged_says_why_and_leaves_the_base_alone(case: str, base: Base, tmp_path: Path) -> None:
    content, words = BROKEN[case]
    file = tmp_path / "x.safetensors"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        save_file(content, file)
    before = [(name, type(module)) for name, module in base.parts["unet"].named_modules()]
    with pytest.raises(InputError) as raised:
        build(base, file)
    assert words in str(raised.value) and "\x1b" not in str(raised.value)
    assert [(name, type(module)) for name, module in base.parts["unet"].named_modules()] == before


@pytest.mark.parametrize("alpha", ["Infinity", "1e400", "1" + "0" * 400, "NaN"])
def test_an_alpha_in_the_metadata_that_is_no_number_is_refused(alpha: str, base: Base, tmp_path: Path) -> None:
    told = {"lora_adapter_metadata": f'{{"lora_alpha": {alpha}}}'}
    save_file(pair(Q), tmp_path / "x.safetensors", metadata=told)
    with pytest.raises(InputError, match="an alpha in its metadata that is no finite number"):
        build(base, tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "config", ['{"alpha_pattern": [1]}', '{"lora_alpha": true}', '{"alpha_pattern": {"to_k": "x"}}']
)
def test_metadata_that_no_trainer_writes_say_nothing(config: str, base: Base, tmp_path: Path) -> None:
    scalars = {f"{Q}.lora_down.weight": torch.tensor(1.0), f"{Q}.lora_up.weight": torch.tensor(1.0)}
    save_file(pair(Q), tmp_path / "x.safetensors", metadata={"lora_adapter_metadata": config})
    (layer,) = build(base, tmp_path / "x.safetensors").layers.values()
    assert layer.scale == 1.0
    save_file(scalars, tmp_path / "y.safetensors", metadata={"lora_adapter_metadata": '{"lora_alpha": 4}'})
    with pytest.raises(InputError, match="have other shapes than here"):
        build(base, tmp_path / "y.safetensors")


@pytest.mark.parametrize(("make", "is_read"), [(lokr_whole, True), (lokr, False)])
def test_an_alpha_beyond_fp16_is_no_harm_where_nobody_reads_it(
    make: Callable[[torch.Tensor], Tensors], is_read: bool, base: Base, tmp_path: Path
) -> None:
    """LyCORIS and ai-toolkit write a rank of 100000 and more as the alpha of whole matrices: infinity in fp16."""
    file, weights = tmp_path / "x.safetensors", plain_weights(base, convolutions=False)
    weights = {path: weight for path, weight in weights.items() if min(weight.shape) >= 16}
    tensors = write(file, weights, make)
    infinite = {key: tensor.half() * (torch.inf if key.endswith("alpha") else 1) for key, tensor in tensors.items()}
    save_file(infinite, file)
    assert bool(unreadable(file)) != is_read
    if not is_read:
        with pytest.raises(InputError, match="hold NaN or infinity"):
            build(base, file)
        return
    adapter = build(base, file)
    for path, weight in weights.items():
        wanted = lora_readers.READERS["comfyui"](weight, tensors, kohya_name(path), 1.0)
        got = weight + adapter.delta(adapter.layers[path]).double()
        assert (got - wanted).abs().max() < 1e-2 * max(1.0, wanted.abs().max().item())


def test_a_missing_file(base: Base, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        build(base, tmp_path / "nowhere.safetensors")


def test_judged_files_are_the_base_until_the_first_and_then_the_last_one(base: Base, tmp_path: Path) -> None:
    weights = plain_weights(base, convolutions=False)
    adapter = files.build(base, seed=0, paths=(), steps=(), text_encoder=False)
    assert isinstance(adapter, TellsChanges) and isinstance(adapter, Mergeable)
    assert not adapter.layers and not any(adapter.parameters().values())
    with adapter.merged(0.7):
        pass
    for count in (2, 3):
        chosen = {path: weights[path] for path in sorted(weights)[:count]}
        write(file := tmp_path / f"{count}.safetensors", chosen, lora)
        adapter.load(file)
        assert adapter.layers.keys() == adapter.by_module().keys() == chosen.keys()
        for name in ("layers", "delta", "by_module", "merged"):  # as `isinstance` looks for them since 3.12
            assert inspect.getattr_static(adapter, name) is not None
    with pytest.raises(InputError):
        adapter.load(tmp_path / "nowhere.safetensors")
    assert not adapter.layers
    adapter.remove()
    adapter.remove()
