"""Which files are Stable Diffusion XL, told from headers; what every other file is, through the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoint import all_names, headed
from tiny_sdxl import as_one_file, change_json, config_only

from lorasweep.cli import main
from lorasweep.components.adapters._targets import find_targets
from lorasweep.components.bases import sdxl
from lorasweep.components.bases._families import SDXL
from lorasweep.components.bases._scopes import UNET_SCOPES
from lorasweep.components.bases._source import Source
from lorasweep.config import compose_recipe
from lorasweep.core.records import BaseOptions
from lorasweep.plan.learning_rate import curves

Shapes = dict[str, list[int]]

U = "model.diffusion_model."
UNET = {f"{U}input_blocks.0.0.weight": [320, 4, 3, 3], f"{U}input_blocks.4.1.x.attn2.to_k.weight": [640, 2048]}
VAE = {"first_stage_model.decoder.conv_in.weight": [512, 4, 3, 3]}
TE1 = {"conditioner.embedders.0.transformer.text_model.final_layer_norm.weight": [768]}
TE2 = {"conditioner.embedders.1.model.ln_final.weight": [1280]}
TE2_BLOCK = "conditioner.embedders.1.model.transformer.resblocks.0"
XL = {**UNET, **VAE, **TE1, **TE2}
WHOLE = {**all_names(SDXL), **XL}
SD1_TEXT = {"cond_stage_model.transformer.text_model.final_layer_norm.weight": [768]}
SD2_TEXT = {"cond_stage_model.model.ln_final.weight": [1024]}


def refused(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `plan` says of a base that it does not take."""
    words = ["base=sdxl", f"base.path={path}", "base.resolution=32", "base.bucket_step=8", "dataset.dollhouse.images=8"]
    assert main(["plan", "--json", *words]) == 2
    return " ".join(capsys.readouterr().err.split())


def test_every_sdxl_needs_nothing_beside_it(tmp_path: Path) -> None:
    file = headed(tmp_path / "illustrious.safetensors", WHOLE)
    options = BaseOptions(name="sdxl", path=str(file), resolution=1024, bucket_step=64)
    assert sdxl.problems(options) == []
    assert sdxl.noise(options).prediction_type == "epsilon"
    marked = headed(tmp_path / "noob.safetensors", {**WHOLE, "v_pred": [0], "ztsnr": [0]})
    found = sdxl.noise(BaseOptions(name="sdxl", path=str(marked), resolution=1024, bucket_step=64))
    assert found.prediction_type == "v_prediction" and found.zero_terminal_snr and found.marked


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({**UNET, **VAE, **SD1_TEXT}, "a checkpoint of Stable Diffusion 1.x or 2.x (override: base=stable_diffusion)"),
        ({**UNET, **VAE, **SD2_TEXT}, "a checkpoint of Stable Diffusion 1.x or 2.x"),
        ({**UNET, **VAE, "conditioner.embedders.0.model.ln_final.weight": [1280]}, "an SDXL refiner"),
        ({**XL, f"{U}input_blocks.0.0.weight": [320, 9, 3, 3]}, "an inpainting UNet with 9 input channels"),
        ({**XL, f"{U}input_blocks.0.0.weight": [320, 8, 3, 3]}, "a picture-editing UNet"),
        ({**XL, "edm_vpred.sigma_max": [1]}, "a CosXL"),
        ({**XL, "edm_mean": [4], "edm_std": [4]}, "a Playground 2.5"),
        ({**XL, f"{U}out.2.scale_weight": [1]}, "quantised, made for drawing only"),
        ({**XL, f"{U}out.2.weight_scale": [1]}, "quantised, made for drawing only"),
        ({**XL, f"{U}out.2.weight.absmax": [1]}, "quantised, made for drawing only"),
        ({"lora_unet_input_blocks_4_1_proj_in.lora_up.weight": [4, 4]}, "a LoRA"),
        ({"unet.down_blocks.1.attentions.0.proj_in.lora_A.weight": [4, 4]}, "a LoRA"),
        ({"lora_unet_mid_block.hada_w1_a": [4, 4]}, "a LoRA"),
        ({"control_model.input_hint_block.0.weight": [16, 3, 3, 3]}, "a ControlNet"),
        ({"image_proj.proj.weight": [8192, 1280]}, "an IP-Adapter"),
        ({"down_blocks.0.motion_modules.0.x": [4]}, "a motion module"),
        ({"clip_g": [4, 1280], "clip_l": [4, 768]}, "an embedding of a few tokens"),
        ({"decoder.conv_in.weight": [512, 4, 3, 3]}, "a VAE alone"),
        ({"down_blocks.0.resnets.0.conv1.weight": [320, 320, 3, 3]}, "a UNet alone"),
        ({"text_model.final_layer_norm.weight": [768]}, "a text encoder alone"),
        ({f"{U}joint_blocks.0.x_block.attn.qkv.weight": [4, 4]}, "a Stable Diffusion 3"),
        ({"double_blocks.0.img_attn.norm.key_norm.scale": [128]}, "a FLUX.1"),
        ({"double_stream_modulation_img.lin.weight": [4, 4]}, "a FLUX.2"),
        ({"distilled_guidance_layer.in_proj.bias": [4]}, "a Chroma"),
        ({"net.llm_adapter.x": [4]}, "an Anima"),
        ({"cap_embedder.0.weight": [2560]}, "a Z-Image"),
        ({"cap_embedder.0.weight": [2304], "layers.0.adaLN_modulation.1.weight": [4, 4]}, "a Lumina 2"),
        ({"txt_in.text_norm.weight": [4]}, "a Qwen-Image 2.1"),
        ({"txt_in.weight": [4, 4]}, "one of Qwen-Image's kin"),
        ({"transformer_blocks.0.img_mod.1.weight": [4, 4]}, "a Qwen-Image"),
        ({"txtfusion.projector.weight": [4, 4]}, "a Krea 2"),
        ({"adaln_single.linear.weight": [4, 4]}, "a PixArt"),
        ({"model.0.weight": [64, 3, 3, 3]}, "an upscaler"),
        ({"first_stage_model.encoder.conv_in.weight": [128, 3, 3, 3]}, "a VAE alone"),
        ({"vision_model.encoder.layers.0.self_attn.q_proj.weight": [4, 4]}, "an image encoder alone"),
        ({"model.layers.0.self_attn.q_proj.weight": [4, 4]}, "a text encoder alone"),
        ({"lora_controlnet": [0], "input_blocks.1.0.in_layers.2.down": [4, 4]}, "a ControlNet"),
        ({"body.0.block1.weight": [320, 320, 3, 3]}, "a T2I-Adapter"),
        ({"double_blocks.0.img_attn_qkv.weight": [4, 4]}, "a video model"),
        ({"blocks.0.self_attn.q.weight": [4, 4]}, "a video model"),
        ({f"{U}input_blocks.1.0.time_stack.in_layers.0.weight": [320]}, "a video model"),
        ({"clip_txt_mapper.weight": [4, 4]}, "a Stable Cascade"),
        ({"transformer_blocks.0.attn.to_q.qweight": [4, 4]}, "quantised, made for drawing only"),
        ({"what.ever": [4]}, "nothing that is known"),
        ({**UNET, **TE1, **TE2}, "got a.safetensors without a VAE"),
        ({**UNET, **VAE, **TE2}, "without a text encoder"),
        ({**XL, f"{U}input_blocks.4.1.x.attn2.to_k.weight": [640, 1024]}, "takes text of width 1024"),
        ({**WHOLE, f"{U}input_blocks.0.0.weight": [320, 4, 1, 1]}, "family, got a.safetensors with others: model.diff"),
        ({**WHOLE, f"{TE2_BLOCK}.attn.in_proj_weight": [1280, 1280]}, f"with others: {TE2_BLOCK}.attn.in_proj_weight"),
        (XL, "must be whole, got a.safetensors without model.diffusion_model.input_blocks.0.0.bias, "),
    ],
)
def test_other_files_are_told_what_they_are(
    shapes: Shapes, said: str, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(headed(tmp_path / "a.safetensors", shapes), capsys)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("xl.ckpt", b"PK\x03\x04", "must not be a pickle"),
        ("xl.safetensors", b"PK\x03\x04rest", "a pickle under another name"),
        ("xl.safetensors", b"", "which is empty"),
        ("xl.safetensors", b"<!DOCTYPE html>", "a web page"),
        ("xl.safetensors", b"GGUF\x03\0\0\0", "a GGUF file"),
        ("xl.png", b"\x89PNG", "must be a diffusers folder or a .safetensors file"),
        ("xl.gguf", b"GGUF\x03\0\0\0", "must not be GGUF"),
        ("xl.safetensors.crdownload", b"\0", "finish the download"),
    ],
)
def test_what_is_no_file_of_weights_is_told(
    name: str, content: bytes, said: str, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in refused(tmp_path / name, capsys)


def test_what_is_not_here_is_not_fetched(
    tiny_sdxl: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "linked.safetensors").symlink_to(tmp_path / "gone.safetensors")
    assert f"a link to {tmp_path}/gone.safetensors, which is not there" in refused(
        tmp_path / "linked.safetensors", capsys
    )
    assert "nothing is downloaded" in refused(Path("stabilityai/stable-diffusion-xl-base-1.0"), capsys)
    weights = Path(shutil.copytree(tiny_sdxl, tmp_path / "xl")) / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    weights.symlink_to("../../blobs/gone")
    assert "cannot be read: No such file" in refused(tmp_path / "xl", capsys)
    pulled = tmp_path / "models--some--base" / "snapshots" / "abc"
    pulled.mkdir(parents=True)
    (pulled / "model_index.json").write_text("{}")
    assert f"a hub's cache holds there: {pulled}" in refused(pulled.parents[1], capsys)


def spoil(part: str, **changes: Any) -> Callable[[Path], Any]:
    return lambda folder: change_json(folder / part, **changes)


@pytest.mark.parametrize(
    ("ruin", "said"),
    [
        (lambda folder: shutil.rmtree(folder / "text_encoder_2"), "text_encoder_2/config.json"),
        (lambda folder: shutil.rmtree(folder / "tokenizer_2"), "tokenizer_2/tokenizer.json"),
        (spoil("model_index.json", _class_name="StableDiffusionXLInpaintPipeline"), "got StableDiffusionXLInpaint"),
        (spoil("model_index.json", _class_name="StableDiffusionPipeline"), "override: base=stable_diffusion"),
        (spoil("unet/config.json", addition_embed_type=None), "told sizes and pooled text as well"),
        (spoil("unet/config.json", cross_attention_dim=2048), "its text encoders give 32 and 48"),
        (spoil("unet/config.json", in_channels=9), "4 input channels, got 9"),
        (spoil("text_encoder_2/config.json", architectures=["CLIPTextModel"]), "CLIPTextModelWithProjection as"),
        (lambda folder: config_only(folder), "unet/*.safetensors, got none"),
    ],
)
def test_folders_that_do_not_fit_together_are_refused(
    ruin: Callable[[Path], Any],
    said: str,
    tiny_sdxl: Path,
    tmp_path: Path,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(tiny_sdxl, tmp_path / "xl"))
    ruin(folder)
    assert said in refused(folder, capsys)


def test_a_torn_or_broken_checkpoint_is_refused(
    tiny_sdxl: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = as_one_file(tiny_sdxl, tmp_path / "xl.safetensors")
    tensors = load_file(file)
    name = "conditioner.embedders.1.model.ln_final.bias"
    save_file({**tensors, name: tensors[name] * torch.nan}, file)
    assert f"NaN or infinity in xl.safetensors: {name}" in refused(file, capsys)
    with open(file, "r+b") as stream:
        stream.truncate(file.stat().st_size - 100)
    assert "torn" in refused(file, capsys)


def test_the_shipped_configs_are_sdxl_with_kohyas_modules() -> None:
    """Published counts of parameters; modules as kohya's networks/lora.py finds them."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    folder = Path(sdxl.__file__).parent / "sdxl_configs"
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae"))
        first = CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder"))
        second = CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(folder / "text_encoder_2"))
    counts = [sum(weight.numel() for weight in part.parameters()) for part in (unet, vae, first, second)]
    assert counts == [2_567_463_684, 83_653_863, 123_060_480, 694_659_840]
    assert [len(find_targets(unet, UNET_SCOPES[scope])) for scope in ("attn", "attn-mlp", "full")] == [560, 722, 788]
    assert [len(find_targets(part, UNET_SCOPES["attn-mlp"])) for part in (first, second)] == [72, 192]
    first_words, second_words = Source(SDXL)._tokenizers(folder).values()
    assert (first_words.pad_token_id, second_words.pad_token_id) == (49407, 0)
    assert first_words("zkw, 1girl").input_ids == second_words("zkw, 1girl").input_ids
    shipped = json.loads((folder / "weight_shapes.json").read_text())
    for part, model in (("unet", unet), ("text_encoder", first), ("text_encoder_2", second)):
        weights = {name: list(t.shape) for name, t in model.state_dict().items() if name.endswith(".weight")}
        assert {f"{name}.weight": shape for name, shape in shipped[part].items()} == weights


def test_auto_picks_the_family_of_the_file(
    tiny_sdxl: Path, tiny_sd: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = headed(tmp_path / "noob.safetensors", XL)
    wanted = ((tiny_sdxl, "sdxl", 1024), (tiny_sd, "stable_diffusion", 512), (single, "sdxl", 1024))
    for path, name, resolution in wanted:
        recipe = compose_recipe(["base=auto", f"base.path={path}"])
        assert (recipe.base.name, recipe.base.resolution) == (name, resolution)
    assert (
        main(["plan", "base=auto", f"base.path={headed(tmp_path / 'f.safetensors', {'double_blocks.0.x': [4]})}"]) == 2
    )
    assert "which is a FLUX.1" in capsys.readouterr().err
    assert main(["plan", "base=auto"]) == 2
    assert "base.path" in capsys.readouterr().err


def test_each_text_encoder_has_its_own_rate(tiny_sdxl: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["base=sdxl", f"base.path={tiny_sdxl}", "base.resolution=32", "base.bucket_step=8"]
    words += ["dataset.dollhouse.images=8", "adapter.text_encoder=true", "train.max_steps=2"]
    recipe = compose_recipe([*words, "optimizer.lr=1e-3", "optimizer.text_encoder_lr=[1e-4,0]"])
    peaks = {curve.part: curve.highest for curve in curves(recipe, 2)}
    assert peaks == {"unet": 1e-3, "text_encoder": 1e-4, "text_encoder_2": 0.0}
    assert main(["plan", *words, "--png", str(home / "rates.png")]) == 0 and (home / "rates.png").exists()
    capsys.readouterr()
    assert main(["plan", *words, "optimizer.text_encoder_lr=[1e-4,1e-4,1e-4]"]) == 2
    assert "one for each of text_encoder, text_encoder_2, got 3" in capsys.readouterr().err
