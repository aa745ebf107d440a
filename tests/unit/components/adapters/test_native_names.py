"""LoRAs of transformers in the names of the original code, as kohya, ComfyUI and ai-toolkit write them."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import lora_readers
import pytest
import torch
from diffusers.loaders import lora_conversion_utils as diffusers_reads
from fresh_bases import fresh
from run_folders import write_run
from safetensors.torch import load_file, save_file
from shipped import build, shake
from tiny_training import make_recipe

from lorasweep.cli import main
from lorasweep.components.adapters import file, lora
from lorasweep.components.adapters._file_names import place
from lorasweep.core import registry
from lorasweep.core.records import BaseOptions, Component, Frame

Tensors = dict[str, torch.Tensor]
RANK, ALPHA = 2, 1.0
DOUBLE = {  # outputs and inputs of FLUX.1's, which diffusers' reader has in its code
    "img_attn_qkv": (9216, 3072),
    "img_attn_proj": (3072, 3072),
    "img_mlp_0": (12288, 3072),
    "img_mlp_2": (3072, 12288),
    "txt_attn_qkv": (9216, 3072),
    "txt_attn_proj": (3072, 3072),
    "txt_mlp_0": (12288, 3072),
    "txt_mlp_2": (3072, 12288),
}
KOHYA_FLUX = {
    **{f"lora_unet_double_blocks_1_{name}": shape for name, shape in DOUBLE.items()},
    "lora_unet_double_blocks_1_img_mod_lin": (18432, 3072),
    "lora_unet_double_blocks_1_txt_mod_lin": (18432, 3072),
    "lora_unet_single_blocks_3_linear1": (21504, 3072),
    "lora_unet_single_blocks_3_linear2": (3072, 15360),
    "lora_unet_single_blocks_3_modulation_lin": (9216, 3072),
    "lora_unet_img_in": (3072, 64),
    "lora_unet_txt_in": (3072, 4096),
    **{f"lora_unet_{name}_in_{end}_layer": (3072, 256) for name in ("time", "vector") for end in ("in", "out")},
}
XLABS_FLUX = {
    **{f"double_blocks.1.processor.qkv_lora{stream}": (9216, 3072) for stream in (1, 2)},
    **{f"double_blocks.1.processor.proj_lora{stream}": (3072, 3072) for stream in (1, 2)},
    "single_blocks.3.processor.qkv_lora": (9216, 3072),
    "single_blocks.3.processor.proj_lora": (3072, 15360),
}
KOHYA_FLUX2 = {
    **{f"lora_unet_double_blocks_0_{name}": shape for name, shape in DOUBLE.items()},
    "lora_unet_single_blocks_0_linear1": (27648, 3072),
    "lora_unet_single_blocks_0_linear2": (3072, 12288),
}
DOTTED_FLUX2 = {
    name.replace("lora_unet_", "diffusion_model.")
    .replace("blocks_0_", "blocks.0.")
    .replace("_qkv", ".qkv")
    .replace("_proj", ".proj")
    .replace("mlp_", "mlp."): shape
    for name, shape in KOHYA_FLUX2.items()
}
MODULATION = ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation")
DOTTED_FLUX2 |= {
    f"diffusion_model.{name}": (8, 4)
    for name in ("img_in", "txt_in", "time_in.in_layer", "time_in.out_layer", "guidance_in.in_layer")
    + ("final_layer.linear", *(f"{name}.lin" for name in MODULATION))
}
KREA = {
    f"diffusion_model.{block}.{name}": (8, 8)
    for block in ("blocks.0", "txtfusion.layerwise_blocks.1", "txtfusion.refiner_blocks.0")
    for name in ("attn.wq", "attn.wk", "attn.wv", "attn.wo", "attn.gate", "mlp.gate", "mlp.up", "mlp.down")
}
KREA |= {
    f"diffusion_model.{name}": (8, 4)
    for name in ("first", "tmlp.0", "tmlp.2", "tproj.1", "txtmlp.1", "txtmlp.3", "txtfusion.projector", "last.linear")
}


def drawn(shapes: dict[str, tuple[int, int]], ends: Sequence[str], *, alpha: bool) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, (outputs, inputs) in shapes.items():
        found[f"{name}.{ends[0]}.weight"] = torch.randn(RANK, inputs, generator=generator)
        found[f"{name}.{ends[1]}.weight"] = torch.randn(outputs, RANK, generator=generator)
        if alpha:
            found[f"{name}.alpha"] = torch.tensor(ALPHA)
    return found


@pytest.mark.parametrize(
    ("read", "shapes", "ends", "alpha"),
    [
        (diffusers_reads._convert_kohya_flux_lora_to_diffusers, KOHYA_FLUX, ("lora_down", "lora_up"), True),
        (diffusers_reads._convert_kohya_flux2_lora_to_diffusers, KOHYA_FLUX2, ("lora_down", "lora_up"), True),
        (diffusers_reads._convert_non_diffusers_flux2_lora_to_diffusers, DOTTED_FLUX2, ("lora_A", "lora_B"), False),
        (diffusers_reads._convert_non_diffusers_krea2_lora_to_diffusers, KREA, ("lora_A", "lora_B"), False),
        (diffusers_reads._convert_xlabs_flux_lora_to_diffusers, XLABS_FLUX, ("down", "up"), False),
    ],
    ids=["kohya's FLUX.1", "kohya's FLUX.2", "ai-toolkit's FLUX.2", "Krea 2", "XLabs's FLUX.1"],
)
def test_modules_and_rows_are_those_that_diffusers_finds(
    read: Callable[[Tensors], Tensors],
    shapes: dict[str, tuple[int, int]],
    ends: Sequence[str],
    alpha: bool,
    tmp_path: Path,
) -> None:
    tensors, file = drawn(shapes, ends, alpha=alpha), tmp_path / "x.safetensors"
    save_file(tensors, file)
    wanted = {key.removeprefix("transformer."): tensor for key, tensor in read(dict(tensors)).items()}
    ups = {key.removesuffix(".lora_B.weight"): key for key in wanted if key.endswith(".lora_B.weight")}
    of_base = {
        f"transformer.{path}": (len(wanted[up]), wanted[up.replace("lora_B", "lora_A")].shape[1])
        for path, up in ups.items()
    }
    placed = place(file, of_base)
    assert placed.keys() == of_base.keys()
    for path, up in ups.items():
        module = placed[f"transformer.{path}"]
        down, rows = (module.rows_of(factor, tensors[module.keys[factor]]) for factor in ("down", "up"))
        scale = ALPHA / RANK if alpha else 1.0
        column = wanted[up.replace("lora_B", "lora_A")][:, :3]
        assert torch.allclose(scale * rows @ down[:, :3], wanted[up] @ column, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("sd35", {"x_embedder.proj": "pos_embed.proj", "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
                  "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2", "final_layer.linear": "proj_out",
                  "final_layer.adaLN_modulation.1": "norm_out.linear",
                  "joint_blocks.0.context_block.adaLN_modulation.1": "transformer_blocks.0.norm1_context.linear",
                  "joint_blocks.1.context_block.adaLN_modulation.1": "transformer_blocks.1.norm1_context.linear"}),
        ("z_image", {"x_embedder": "all_x_embedder.2-1", "final_layer.linear": "all_final_layer.2-1.linear",
                     "final_layer.adaLN_modulation.1": "all_final_layer.2-1.adaLN_modulation.1",
                     "t_embedder.mlp.0": "t_embedder.mlp.0"}),
        ("chroma", {"img_in": "x_embedder", "distilled_guidance_layer.layers.0.in_layer":
                    "distilled_guidance_layer.layers.0.linear_1", "final_layer.linear": "proj_out"}),
        *(  # of which diffusers' readers of LoRA files leave out alpha, or how halves lie
            (name, {"final_layer.linear": "proj_out", "final_layer.adaLN_modulation.1": "norm_out.linear"})
            for name in ("flux1_dev", "flux2_klein")
        ),
        ("anima", {"x_embedder.proj.1": "patch_embed.proj", "t_embedder.1.linear_1": "time_embed.t_embedder.linear_1",
                   "final_layer.adaln_modulation.2": "norm_out.linear_2", "final_layer.linear": "proj_out"}),
    ],
)  # fmt: skip
def test_modules_outside_blocks_have_their_original_names(
    name: str, modules: dict[str, str], tiny_flow: Callable[[str], Path], tmp_path: Path
) -> None:
    """As diffusers' readers of whole checkpoints rename them; what shifts and scales there scales and shifts here."""
    options = BaseOptions(name=name, path=str(tiny_flow(name)), resolution=32, bucket_step=8)
    found = importlib.import_module(f"lorasweep.components.bases.{name}").weight_shapes(options)
    shapes = {f"transformer.{path}": shape for path, shape in found["transformer"].items()}
    file, sizes = tmp_path / "x.safetensors", {ours: shapes[f"transformer.{ours}"] for ours in modules.values()}
    tensors = {
        f"diffusion_model.{theirs}.{end}": torch.arange(math.prod(size), dtype=torch.float32).reshape(size)
        for theirs, ours in modules.items()
        for end, size in (
            ("lora_A.weight", (RANK, *sizes[ours][1:])),
            ("lora_B.weight", (sizes[ours][0], RANK, *[1] * len(sizes[ours][2:]))),
        )
    }
    save_file(tensors, file)
    placed = place(file, shapes)
    assert placed.keys() == {f"transformer.{ours}" for ours in modules.values()}
    for path, module in placed.items():
        whole = tensors[module.keys["up"]]
        # The text's last block gives nothing on: diffusers modulates it as it does the output.
        is_turned = path in ("transformer.norm_out.linear", "transformer.transformer_blocks.1.norm1_context.linear")
        wanted = torch.cat([*reversed(whole.chunk(2))]) if is_turned else whole
        assert torch.equal(module.rows_of("up", whole), wanted)


def test_a_file_with_text_encoders_that_take_no_lora_says_so(
    tiny_flow: Callable[[str], Path], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"lora_unet_joint_blocks_0_x_block_attn_proj": (128, 128), "lora_te3_encoder_block_0_layer_0_q": (8, 8)}
    save_file(drawn(names, ("lora_down", "lora_up"), alpha=True), home / "x.safetensors")
    words = ["base=sd35", f"base.path={tiny_flow('sd35')}", "base.resolution=32", "base.bucket_step=8"]
    assert main(["judge", str(home / "x.safetensors"), *words, "captions.trigger=zkw"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "this is a LoRA of Stable Diffusion 3: 1 of 2 modules are not in this base (lora_te3_" in said
    assert "no LoRA sits on that text encoder here" in said


FUSED = {  # by base: what the original code calls three modules in one
    "flux1_dev": {
        "double_blocks.{}.img_attn.qkv": "transformer_blocks.{}.attn.to_q|to_k|to_v",
        "double_blocks.{}.txt_attn.qkv": "transformer_blocks.{}.attn.add_q_proj|add_k_proj|add_v_proj",
    },
    "z_image": {"layers.{}.attention.qkv": "layers.{}.attention.to_q|to_k|to_v"},
    "ideogram4": {
        "layers.{}.attention.qkv": "layers.{}.attention.to_q|to_k|to_v",
        "layers.{}.attention.o": "layers.{}.attention.to_out.0",
    },
    "lumina2": {"layers.{}.attention.qkv": "layers.{}.attn.to_q|to_k|to_v"},
    "sd35": {
        "joint_blocks.{}.x_block.attn.qkv": "transformer_blocks.{}.attn.to_q|to_k|to_v",
        "joint_blocks.{}.context_block.attn.qkv": "transformer_blocks.{}.attn.add_q_proj|add_k_proj|add_v_proj",
    },
}


def fuse(tensors: Tensors, names: dict[str, str]) -> Tensors:
    """Put three LoRAs into one of three times the rank, as kohya names it."""
    fused = dict(tensors)
    for theirs, ours in names.items():
        start, _, last = ours.rpartition(".")
        for block in range(8):
            paths = [f"transformer.{start.format(block)}.{name}" for name in last.split("|")]
            if f"{paths[0]}.lora_A.weight" not in fused:
                continue
            name = f"lora_unet_{theirs.format(block).replace('.', '_')}"
            downs, ups = ([fused.pop(f"{path}.lora_{end}.weight") for path in paths] for end in "AB")
            fused[f"{name}.lora_down.weight"] = torch.cat(downs)
            fused[f"{name}.lora_up.weight"] = torch.block_diag(*ups)
    return fused


@torch.no_grad()
@pytest.mark.parametrize("name", FUSED)
def test_a_fused_file_acts_as_the_split_one(
    name: str, tiny_flow: Callable[[str], Path], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = BaseOptions(name=name, path=str(tiny_flow(name)), resolution=32, bucket_step=8)
    base = importlib.import_module(f"lorasweep.components.bases.{name}").load(options, device="cpu", precision="fp32")
    adapter = lora.build(base, seed=0, dim=2, alpha=2.0, dropout=0.0, targets="attn", text_encoder=False)
    for tensor in adapter.parameters()["transformer"]:
        torch.nn.init.normal_(tensor, std=0.2, generator=torch.Generator().manual_seed(0))
    adapter.save(home / "split.safetensors")
    adapter.remove()
    split = load_file(home / "split.safetensors")
    fused = fuse(split, FUSED[name])
    assert len(fused) < len(split)
    save_file({key: tensor.contiguous() for key, tensor in fused.items()}, home / "fused.safetensors")
    noise, level = torch.randn(1, *base.latent.of(32, 32)), torch.full((1,), 0.5)
    text, frames = base.encode_captions(["zkw"]), [Frame.whole(32, 32)]
    answers = [base.predict(noise, level, text, frames)]
    for form in ("split", "fused"):
        read = file.build(base, seed=0, path=str(home / f"{form}.safetensors"))
        answers.append(base.predict(noise, level, text, frames))
        read.remove()
    assert torch.allclose(answers[1], answers[2], atol=1e-5) and (answers[1] - answers[0]).abs().max() > 0.01
    if name == "z_image":
        words = [f"base={name}", f"base.path={tiny_flow(name)}", "base.resolution=32", "base.bucket_step=8"]
        words += ["metrics=[norms]", "sample.steps=1", "sample.weights=[0.7]", "tracking=none"]
        assert main(["judge", str(home / "fused.safetensors"), *words, "captions.trigger=zkw", "--json"]) == 0
        assert any(key.startswith("norms/") for key in json.loads(capsys.readouterr().out)["metrics"])


def of_lycoris(kind: str, weight: torch.Tensor) -> Tensors:
    """What LyCORIS writes for one linear layer, as kohya's trainer hands it the fused ones."""
    generator = torch.Generator().manual_seed(0)

    def drawn_of(*shape: int) -> torch.Tensor:
        return 0.2 * torch.randn(shape, generator=generator)

    outputs, inputs = weight.shape
    rows = {"dora_scale": 1.1 * weight.norm(dim=1, keepdim=True)} if "dora" in kind else {}
    if kind == "glora":  # of LyCORIS 2 and later: the factors of each product are called the other way round
        pairs = {"a2": (inputs, 3), "a1": (3, inputs), "b2": (outputs, 3), "b1": (3, inputs)}
        return {"alpha": torch.tensor(2.0), **{f"{name}.weight": drawn_of(*shape) for name, shape in pairs.items()}}
    first = {"lokr_w1": drawn_of(4, 4)}  # of 4 rows, which no third of the outputs begins with
    if "whole" in kind:
        return {"alpha": torch.tensor(2.0), **first, "lokr_w2": drawn_of(outputs // 4, inputs // 4), **rows}
    second = {"lokr_w2_a": drawn_of(outputs // 4, 3), "lokr_w2_b": drawn_of(3, inputs // 4)}
    return {"alpha": torch.tensor(2.0), **first, **second, **rows}


@torch.no_grad()
@pytest.mark.parametrize("kind", ["lokr", "lokr whole", "lokr dora", "glora"])
@pytest.mark.parametrize("name", FUSED)
def test_a_fused_file_of_lycoris_acts_on_the_parts_as_on_the_whole(
    name: str, kind: str, tiny_flow: Callable[[str], Path], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = fresh(BaseOptions(name=name, path=str(tiny_flow(name)), resolution=32, bucket_step=8))
    weights = {path: module.weight for path, module in base.parts["transformer"].named_modules()
               if isinstance(module, torch.nn.Linear)}  # fmt: skip
    tensors: Tensors = {}
    wanted: Tensors = {}
    for theirs, ours in FUSED[name].items():
        start, _, last = ours.rpartition(".")
        paths = [f"{start.format(0)}.{end}" for end in last.split("|")]
        whole, called = torch.cat([weights[path] for path in paths]).double(), f"lora_unet_{theirs.format(0)}"
        called = called.replace(".", "_")
        tensors |= {f"{called}.{end}": tensor.float() for end, tensor in of_lycoris(kind, whole).items()}
        moved = lora_readers.comfyui(whole, tensors, called, 1.0) - whole
        sizes = [len(weights[path]) for path in paths]
        wanted |= {f"transformer.{path}": rows for path, rows in zip(paths, moved.split(sizes), strict=True)}
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, home / "x.safetensors")
    read = file.build(base, seed=0, path=str(home / "x.safetensors"))
    assert read.layers.keys() == wanted.keys()
    for path, layer in read.layers.items():
        assert (read.delta(layer).double() - wanted[path]).abs().max() < 1e-5 * wanted[path].abs().max(), path
    if (name, kind) == ("z_image", "lokr"):
        words = [f"base={name}", f"base.path={tiny_flow(name)}", "base.resolution=32", "base.bucket_step=8"]
        words += ["metrics=[norms]", "sample.steps=1", "sample.weights=[0.7]", "tracking=none", "captions.trigger=zkw"]
        assert main(["judge", str(home / "x.safetensors"), *words, "--json"]) == 0
        run = json.loads(capsys.readouterr().out)["run_folder"]
        out = home / "again.safetensors"
        assert main(["export", run, "--form", "lora", "--out", str(out)]) == 0
        assert not any("lokr" in key for key in load_file(out))


@torch.no_grad()
def test_a_loha_of_lumina_2_is_written_whole(
    tiny_flow: Callable[[str], Path], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its factors could not be put together where queries, keys and values are one module."""
    name = "lumina2"
    base = fresh(BaseOptions(name=name, path=str(tiny_flow(name)), resolution=32, bucket_step=8))
    recipe = dataclasses.replace(
        make_recipe(tiny_flow(name), adapter=Component(name="loha", options={"dim": 2, "alpha": 2.0})),
        base=BaseOptions(name=name, path=str(tiny_flow(name)), resolution=32, bucket_step=8),
    )
    adapter = build(registry.load("adapter", "loha"), base, seed=0, dim=2, alpha=2.0)
    shake(adapter)
    wanted = {path: adapter.delta(layer).clone() for path, layer in adapter.layers.items()}
    write_run(home / "outputs" / "sweep" / "0000-a-s0", recipe, home / "images", adapter)
    assert main(["export", "sweep/0000-a-s0", "--out", str(home / "x.safetensors")]) == 2
    assert "give --form lora" in capsys.readouterr().err
    assert main(["export", "sweep/0000-a-s0", "--for", "diffusers"]) == 2
    assert "must be of ComfyUI, which read" in capsys.readouterr().err
    assert main(["export", "sweep/0000-a-s0", "--form", "lora", "--out", str(home / "x.safetensors")]) == 0
    adapter.remove()
    assert all(key.startswith("diffusion_model.") for key in load_file(home / "x.safetensors"))
    read = file.build(base, seed=0, path=str(home / "x.safetensors"))
    assert read.layers.keys() == wanted.keys()
    for path, layer in read.layers.items():
        torch.testing.assert_close(read.delta(layer), wanted[path], atol=1e-5, rtol=1e-4)
