"""LoRAs of transformers in the names of the original code, as kohya, ComfyUI and ai-toolkit write them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from diffusers.loaders import lora_conversion_utils as diffusers_reads
from safetensors.torch import load_file, save_file

from lorasweep.cli import main
from lorasweep.components.adapters import file, lora
from lorasweep.components.adapters._file_names import place
from lorasweep.core.records import BaseOptions, Frame

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
KREA = {
    f"diffusion_model.{block}.{name}": (8, 8)
    for block in ("blocks.0", "txtfusion.layerwise_blocks.1", "txtfusion.refiner_blocks.0")
    for name in ("attn.wq", "attn.wk", "attn.wv", "attn.wo", "attn.gate", "mlp.gate", "mlp.up", "mlp.down")
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
    ],
    ids=["kohya's FLUX.1", "kohya's FLUX.2", "ai-toolkit's FLUX.2", "Krea 2"],
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


FUSED = {  # by base: what the original code calls three modules in one
    "flux1_dev": {
        "double_blocks.{}.img_attn.qkv": "transformer_blocks.{}.attn.to_q|to_k|to_v",
        "double_blocks.{}.txt_attn.qkv": "transformer_blocks.{}.attn.add_q_proj|add_k_proj|add_v_proj",
    },
    "z_image": {"layers.{}.attention.qkv": "layers.{}.attention.to_q|to_k|to_v"},
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
