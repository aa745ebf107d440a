from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import pipeline_of
from tiny_checkpoint import all_names, headed, same_tensors, write_checkpoint
from tiny_sd import make_tiny_sd

from lorasweep.components.bases import stable_diffusion
from lorasweep.components.bases._families import STABLE_DIFFUSION
from lorasweep.core.errors import ConfigError
from lorasweep.core.records import BaseOptions

CAPTIONS = ["zkw, red hair", ""]


def options(path: Path | str | None, **changes: Any) -> BaseOptions:
    return BaseOptions(
        **{
            "name": "stable_diffusion",
            "path": path and str(path),
            "resolution": 32,
            "bucket_step": 8,
            **changes,
        }
    )


def load(path: Path, precision: str = "fp32", **changes: Any) -> Any:
    return stable_diffusion.load(options(path, **changes), device="cpu", precision=precision)


@pytest.fixture
def copy(tiny_sd: Path, tmp_path: Path) -> Path:
    """A copy of the tiny base that may be spoilt."""
    return Path(shutil.copytree(tiny_sd, tmp_path / "copy"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **knobs: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_it_is_frozen_and_what_the_folder_holds(tiny_sd: Path, no_network: None) -> None:
    from diffusers import StableDiffusionPipeline

    base = load(tiny_sd)
    theirs = StableDiffusionPipeline.from_pretrained(tiny_sd, local_files_only=True)
    for mine, other in (
        (base.unet, theirs.unet),
        (base.vae, theirs.vae),
        (base.parts["text_encoder"], theirs.text_encoder),
    ):
        assert same_tensors(mine, other)
        assert not mine.training and not any(p.requires_grad for p in mine.parameters())
    assert base.noise_schedule.config.prediction_type == "epsilon"
    assert torch.equal(base.noise_schedule.alphas_cumprod, theirs.scheduler.alphas_cumprod)
    with torch.no_grad():
        wanted, _ = theirs.encode_prompt(CAPTIONS, "cpu", 1, False)
    assert torch.equal(base.encode_captions(CAPTIONS)["embeds"], wanted)


def test_latents_are_the_posterior_times_the_scaling_factor(tiny_sd: Path) -> None:
    base = load(tiny_sd)
    pixels = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, std = base.encode_images(pixels)
    with torch.no_grad():
        posterior = base.vae.encode(pixels).latent_dist
    assert mean.shape == std.shape == (2, 4, 8, 12)
    assert torch.allclose(mean, 0.18215 * posterior.mean) and torch.allclose(std, 0.18215 * posterior.std)


def test_clip_skip_counts_as_kohya(tiny_sd: Path) -> None:
    """1 is the last layer; 2 the one before, through the final layer norm."""
    base = load(tiny_sd, clip_skip=2)
    ids = base.tokenizers[0](CAPTIONS, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        hidden = base.parts["text_encoder"](ids, output_hidden_states=True).hidden_states
        wanted = base.parts["text_encoder"].final_layer_norm(hidden[-2])
        found = base.encode_captions(CAPTIONS)["embeds"]
    assert torch.equal(found, wanted)
    plain = load(tiny_sd)
    assert not torch.allclose(found, plain.encode_captions(CAPTIONS)["embeds"], atol=1e-2)
    assert base.fingerprint == plain.fingerprint and base.text_fingerprint != plain.text_fingerprint


def test_long_captions_are_read_in_chunks_of_75(tiny_sd: Path) -> None:
    """As kohya's max_token_length of 150 and 225: each chunk between marks of its own, the inner ones dropped."""
    base = load(tiny_sd)
    long = "red hair, " * 50  # 150 tokens, of which the 75th and 76th are in two chunks
    with torch.no_grad():
        found = base.encode_captions([long, "zkw"])["embeds"]
        ids = base.tokenizers[0](long, add_special_tokens=False).input_ids
        assert len(ids) == 150 and base.chunks(long) == 2
        start, end = base.tokenizers[0].bos_token_id, base.tokenizers[0].eos_token_id
        rows = torch.tensor([[start, *ids[:75], end], [start, *ids[75:], end]])
        first, second = base.parts["text_encoder"](rows).last_hidden_state
        alone, empty = (base.encode_captions([text])["embeds"][0] for text in ("zkw", ""))
    assert found.shape == (2, 152, 32)
    assert torch.allclose(found[0], torch.cat([first[:-1], second[1:]]), atol=1e-6)
    assert torch.allclose(found[1], torch.cat([alone[:-1], empty[1:]]), atol=1e-6)
    rows = base.stack([{"embeds": alone}, {"embeds": found[0]}], {"embeds": empty})["embeds"]
    assert torch.equal(rows[1], found[0]) and torch.allclose(rows[0], found[1], atol=1e-6)


@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpmpp_2m"])
def test_pipelines_draw_over_the_very_modules(tiny_sd: Path, sampler: str, capsys: pytest.CaptureFixture[str]) -> None:
    base = load(tiny_sd)
    pipeline = pipeline_of(base, sampler)
    assert pipeline.unet is base.unet and pipeline.vae is base.vae and pipeline.safety_checker is None
    assert pipeline.scheduler.config.steps_offset == 1
    assert not pipeline.scheduler.config.get("clip_sample", False)
    assert torch.equal(pipeline.scheduler.alphas_cumprod, base.noise_schedule.alphas_cumprod)
    picture = pipeline("zkw", num_inference_steps=3, height=32, width=48).images[0]
    assert picture.size == (48, 32)
    assert capsys.readouterr() == ("", "")


def test_prediction_type_comes_from_the_folder(tmp_path: Path) -> None:
    base = load(make_tiny_sd(tmp_path / "v", prediction_type="v_prediction"))
    assert base.noise_schedule.config.prediction_type == "v_prediction"
    assert pipeline_of(base, "euler").scheduler.config.prediction_type == "v_prediction"


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision(tiny_sd: Path, precision: str) -> None:
    base = load(tiny_sd, precision)
    assert base.dtype == {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    assert {p.dtype for p in base.unet.parameters()} == {base.dtype}
    mean, _ = base.encode_images(torch.zeros(1, 3, 32, 32))
    assert mean.dtype == torch.float32 and mean.isfinite().all()


def test_an_fp16_variant_is_found(copy: Path, tiny_sd: Path) -> None:
    for file in copy.rglob("*.safetensors"):
        file.rename(file.with_suffix(".fp16.safetensors"))
    assert stable_diffusion.problems(options(copy)) == []
    assert same_tensors(load(copy).unet, load(tiny_sd).unet)


def test_one_checkpoint_file_with_its_configs_beside_it(
    copy: Path, tiny_sd: Path, no_network: None, capfd: pytest.CaptureFixture[str]
) -> None:
    file = write_checkpoint(copy, copy.with_suffix(".safetensors"))
    for weights in copy.rglob("*.safetensors"):
        weights.unlink()
    assert stable_diffusion.problems(options(file)) == []
    capfd.readouterr()
    base, wanted = load(file), load(tiny_sd)
    assert capfd.readouterr().err == ""  # diffusers' own bars and remarks stay out of the terminal
    assert same_tensors(base.vae, wanted.vae)
    assert all(same_tensors(base.parts[part], wanted.parts[part]) for part in wanted.parts)
    assert torch.equal(base.encode_captions(CAPTIONS)["embeds"], wanted.encode_captions(CAPTIONS)["embeds"])
    assert base.noise_schedule.config.prediction_type == "epsilon"


def test_fingerprints_follow_the_content(copy: Path, tiny_sd: Path) -> None:
    before, base = stable_diffusion.fingerprint(options(tiny_sd)), load(tiny_sd)
    assert stable_diffusion.fingerprint(options(copy)) == before == base.fingerprint
    (copy / "README.md").write_text("not part of it")
    assert stable_diffusion.fingerprint(options(copy)) == before
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    changed = load(copy)
    assert stable_diffusion.fingerprint(options(copy)) == changed.fingerprint != before
    assert changed.vae_fingerprint != base.vae_fingerprint
    assert changed.text_fingerprint == base.text_fingerprint


def spoil(part: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / part).write_text(content) and None


def unet_config(folder: Path, **changes: Any) -> None:
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


SPOILT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "model_index.json"),
    "broken index": (spoil("model_index.json", "{"), "model_index.json"),
    "SDXL": (spoil("model_index.json", '{"_class_name": "StableDiffusionXLPipeline"}'), "StableDiffusionXL"),
    "inpainting": (lambda folder: unet_config(folder, in_channels=9), "4 input channels, got 9"),
    "no unet": (lambda folder: shutil.rmtree(folder / "unet"), "unet/config.json"),
    "no tokenizer": (lambda folder: shutil.rmtree(folder / "tokenizer"), "tokenizer"),
    "no scheduler": (lambda folder: shutil.rmtree(folder / "scheduler"), "scheduler_config.json"),
    "odd target": (spoil("scheduler/scheduler_config.json", '{"prediction_type": "sample"}'), "got sample"),
    "pickles": (
        lambda folder: [file.rename(file.with_suffix(".bin")) for file in (folder / "vae").glob("*.safetensors")],
        "vae/*.safetensors, got pickles",
    ),
}


@pytest.mark.parametrize(("ruin", "message"), SPOILT.values(), ids=SPOILT.keys())
def test_unfit_folders_are_explained(copy: Path, ruin: Callable[[Path], Any], message: str) -> None:
    ruin(copy)
    ((key, found, _),) = stable_diffusion.problems(options(copy))
    assert key == "path" and message in found
    with pytest.raises(ConfigError, match="base.path"):
        load(copy)


def test_unfit_files_are_explained(tmp_path: Path) -> None:
    def first(path: Path) -> str:
        return stable_diffusion.problems(options(path))[0][1]

    assert "must exist" in first(tmp_path / "nothing")
    for name, message in {"a.ckpt": "pickle", "a.txt": "folder or a .safetensors"}.items():
        (tmp_path / name).write_bytes(b"x")
        assert message in first(tmp_path / name)
    (tmp_path / "lora.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    assert "whole Stable Diffusion" in first(tmp_path / "lora.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"\x02")
    assert "readable safetensors" in first(tmp_path / "torn.safetensors")


CONV_IN = {"model.diffusion_model.input_blocks.0.0.weight": [320, 4, 3, 3]}
SD1_TEXT = {"cond_stage_model.transformer.text_model.final_layer_norm.weight": [768]}
SD2_TEXT = {"cond_stage_model.model.ln_final.weight": [1024]}
VAE = {"first_stage_model.decoder.conv_in.weight": [512, 4, 3, 3]}
SD1 = {**CONV_IN, **VAE, **SD1_TEXT}


def test_a_checkpoint_of_stable_diffusion_1_needs_nothing_beside_it(tmp_path: Path) -> None:
    file = headed(tmp_path / "sd15.safetensors", {**all_names(STABLE_DIFFUSION), **SD1})
    assert stable_diffusion.problems(options(file)) == []
    ours = stable_diffusion.fingerprint(options(file))
    make_tiny_sd(tmp_path / "sd15")
    assert stable_diffusion.fingerprint(options(file)) != ours  # the folder beside it is what is taken


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            {**CONV_IN, "conditioner.embedders.1.model.ln_final.weight": [1280]},
            "a checkpoint of Stable Diffusion XL",
        ),
        ({**CONV_IN, **VAE, **SD2_TEXT}, "must be in a folder"),
        ({**SD1, "model.diffusion_model.input_blocks.0.0.weight": [320, 9, 3, 3]}, "9 input channels"),
        ({"lora_unet_mid_block.lora_up.weight": [4, 4]}, "which is a LoRA"),
        ({"base_model.model.mid_block.lora_A.weight": [4, 4]}, "which is a LoRA"),
        ({"unet.mid_block.attn.to_q.lora.up.weight": [4, 4]}, "which is a LoRA"),
        ({"control_model.input_hint_block.0.weight": [16, 3, 3, 3]}, "which is a ControlNet"),
        ({"decoder.conv_in.weight": [512, 4, 3, 3]}, "which is a VAE alone"),
        ({"text_model.final_layer_norm.weight": [768]}, "which is a text encoder alone"),
        ({"down_blocks.0.resnets.0.conv1.weight": [320, 320, 3, 3]}, "which is a UNet alone"),
        ({"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": [4, 4]}, "a Stable Diffusion 3"),
        ({"double_blocks.0.img_attn.qkv.weight": [4, 4]}, "which is a FLUX.1"),
        ({"emb_params": [4, 768]}, "an embedding of a few tokens"),
        ({**SD1, "edm_mean": [4]}, "the EDM formulation"),
        ({**SD1, "model.diffusion_model.out.2.scale_weight": [1]}, "quantised"),
        ({**CONV_IN, **SD1_TEXT}, "without a VAE"),
        ({**CONV_IN, **VAE, "alphas_cumprod": [1000]}, "without a text encoder"),
        ({"model.0.weight": [64, 3, 3, 3]}, "an upscaler"),
        ({"weight": [64, 3, 3, 3]}, "nothing that is known"),
    ],
)
def test_other_checkpoints_are_told_what_they_are(tmp_path: Path, shapes: dict[str, list[int]], message: str) -> None:
    ((key, found, _),) = stable_diffusion.problems(options(headed(tmp_path / "a.safetensors", shapes)))
    assert key == "path" and message in found


def test_the_shipped_configs_are_stable_diffusion_1() -> None:
    """Published counts of parameters, and token ids by OpenAI's own `clip/simple_tokenizer.py`."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = Path(stable_diffusion.__file__).parent / "sd1"
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae"))
        text = CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder"))
    counts = [sum(weight.numel() for weight in part.parameters()) for part in (unet, vae, text)]
    assert counts == [859_520_964, 83_653_863, 123_060_480]
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    ids = tokenizer("1girl, zkw, red hair, Été ☕ ^_^ don't").input_ids
    assert ids[1:-1] == [272, 1611, 267, 89, 18339, 267, 736, 2225, 267, 3459, 39694, 26561, 15995, 847, 713]
    padded = tokenizer("a photo of a cat", padding="max_length").input_ids
    assert padded == [49406, 320, 1125, 539, 320, 2368, *[49407] * 71]


def test_a_folder_inside_the_base_is_answered_with_the_one_above(tiny_sd: Path) -> None:
    ((_, _, hint),) = stable_diffusion.problems(options(tiny_sd / "unet"))
    assert hint == f"give the folder above: {tiny_sd}"


def test_all_problems_at_once(copy: Path) -> None:
    shutil.rmtree(copy / "unet")
    shutil.rmtree(copy / "vae")
    with pytest.raises(ConfigError) as caught:
        stable_diffusion.fingerprint(options(copy, clip_skip=0))
    assert [problem.where for problem in caught.value.problems] == [
        "base.clip_skip",
        "base.path",
        "base.path",
    ]
    assert [key for key, _, _ in stable_diffusion.problems(options(None))] == ["path"]


def test_checking_needs_no_torch(tiny_sd: Path) -> None:
    code = (
        "import sys; from lorasweep.core.records import BaseOptions;"
        "from lorasweep.components.bases import dollhouse as d;"
        f"o = BaseOptions(name='dollhouse', path={str(tiny_sd)!r}, resolution=32, bucket_step=8);"
        "assert d.problems(o) == [] and len(d.fingerprint(o)) == 64; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
