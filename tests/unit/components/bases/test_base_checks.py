"""A base is judged by `plan`, from its files, before anything is loaded: through the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import pipeline_of
from safetensors.torch import load_file, save_file
from tiny_checkpoint import write_checkpoint

from lorasweep.cli import main
from lorasweep.components.bases import stable_diffusion
from lorasweep.config import compose_recipe
from lorasweep.core.errors import ConfigError
from lorasweep.core.records import BaseOptions
from lorasweep.trial.train.loss import draw_levels, level_weights

UNET = "unet/diffusion_pytorch_model.safetensors"
SIZES = ["base.resolution=32", "base.bucket_step=8", "buckets=kohya", "dataset.dollhouse.images=8"]


def words(path: Path, *more: str) -> list[str]:
    return ["base=stable_diffusion", f"base.path={path}", *SIZES, *more]


def plan(path: Path, *more: str) -> int:
    return main(["plan", "--json", *words(path, *more)])


def load(path: Path, **changes: Any) -> Any:
    options = BaseOptions(name="stable_diffusion", path=str(path), resolution=32, bucket_step=8, **changes)
    return stable_diffusion.load(options, device="cpu", precision="fp32")


def change(file: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file)


def spoil(name: str, value: float = float("nan")) -> Callable[[dict[str, torch.Tensor]], None]:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].view(-1)[-1] = value

    return edit


def in_precision(dtype: torch.dtype) -> Callable[[dict[str, torch.Tensor]], None]:
    def edit(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()})

    return edit


@pytest.fixture
def folder(tiny_sd: Path, tmp_path: Path) -> Path:
    """A copy of the tiny base that may be spoilt."""
    return Path(shutil.copytree(tiny_sd, tmp_path / "sd"))


@pytest.fixture
def checkpoint(folder: Path) -> Path:
    """The same as one file, with its configs in the folder beside it."""
    file = write_checkpoint(folder, folder.with_suffix(".safetensors"))
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    return file


# -------------------------------------------------------------------------------------- broken weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_named_by_plan(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str], dtype: torch.dtype, value: float
) -> None:
    change(folder / UNET, in_precision(dtype))
    assert plan(folder) == 0
    change(folder / UNET, spoil("mid_block.attentions.0.proj_in.weight", value))
    capsys.readouterr()
    assert plan(folder) == 2
    err = capsys.readouterr().err
    assert "base.path" in err and f"{UNET}: mid_block.attentions.0.proj_in.weight" in err
    assert "no learning rate mends" in err


def in_bytes(tensors: dict[str, torch.Tensor]) -> None:
    tensors.update({name: tensor.to(torch.int8) for name, tensor in tensors.items()})


def in_scaled_fp8(tensors: dict[str, torch.Tensor]) -> None:
    tensors.update({name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors.items()})
    tensors["conv_in.weight_scale"] = torch.ones(1)


@pytest.mark.parametrize("spoilt", [in_bytes, in_scaled_fp8])
def test_a_quantised_part_of_a_folder_is_refused_by_plan(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str], spoilt: Callable[[dict[str, torch.Tensor]], None]
) -> None:
    change(folder / UNET, spoilt)
    assert plan(folder) == 2
    assert f"not quantised, got {UNET} with conv_in.weight" in capsys.readouterr().err


def test_train_refuses_a_broken_base_before_it_is_loaded(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder / "vae/diffusion_pytorch_model.safetensors", spoil("decoder.conv_out.bias"))
    assert main(["train", *words(folder, "tracking=none")]) == 2
    assert "decoder.conv_out.bias" in capsys.readouterr().err
    assert not (home / "outputs").exists()


def test_of_a_checkpoint_only_what_is_loaded_counts(
    checkpoint: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    infinite = torch.full((2,), float("inf"))
    change(checkpoint, lambda tensors: tensors.update({"model_ema.decay": infinite}))
    assert plan(checkpoint) == 0
    name = "cond_stage_model.transformer.text_model.final_layer_norm.bias"
    change(checkpoint, spoil(name))
    assert plan(checkpoint) == 2
    assert name in capsys.readouterr().err


def test_weights_are_looked_through_once(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lorasweep.core import finite

    assert plan(folder) == 0
    monkeypatch.setattr(finite, "_search", lambda *_: pytest.fail("read again"))
    assert plan(folder) == 0


def test_large_files_are_digested_once_per_machine(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lorasweep.core import files

    monkeypatch.setattr(files, "_LARGE_BYTES", 0)
    assert plan(folder) == 0
    files._digests.clear()  # another process
    monkeypatch.setattr(files, "sha256", lambda _: pytest.fail("read again"))
    assert plan(folder) == 0


# ---------------------------------------------------------------------------------------- missing parts


@pytest.mark.parametrize(("beginning", "part"), [("first_stage_model.", "VAE"), ("cond_stage_model.", "text encoder")])
def test_a_checkpoint_without_a_part_is_refused(
    checkpoint: Path, home: Path, capsys: pytest.CaptureFixture[str], beginning: str, part: str
) -> None:
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.startswith(beginning)]:
            del tensors[name]

    change(checkpoint, drop)
    assert plan(checkpoint) == 2
    err = capsys.readouterr().err
    assert f"got sd.safetensors without a {part}" in err and "save_pretrained" in err


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_half_a_folder_is_refused(folder: Path, home: Path, capsys: pytest.CaptureFixture[str], part: str) -> None:
    shutil.rmtree(folder / part)
    assert plan(folder) == 2
    assert f"{part}/config.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (UNET, "conv_in.weight"),
        ("vae/diffusion_pytorch_model.safetensors", "decoder.conv_in.weight"),
        ("text_encoder/model.safetensors", "final_layer_norm.weight"),
    ],
)
def test_weights_that_are_missing_are_not_made_up(folder: Path, file: str, name: str) -> None:
    change(folder / file, lambda tensors: tensors.pop(next(key for key in tensors if key.endswith(name))))
    with pytest.raises(ConfigError, match=r"must be whole, got a \w+ without .*" + name):
        load(folder)


def test_a_tokenizer_without_a_config_is_as_long_as_its_text_encoder(folder: Path, tiny_sd: Path) -> None:
    (folder / "tokenizer" / "tokenizer_config.json").unlink()
    assert torch.equal(
        load(folder).encode_captions(["zkw"])["embeds"], load(tiny_sd).encode_captions(["zkw"])["embeds"]
    )


# ------------------------------------------------------------------------------------- no safetensors


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "which is empty"),
        (b"PK\x03\x04rest", "a pickle under another name"),
        (b"\x80\x02}q\x00rest", "a pickle under another name"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b'{"error":"unauthorized"}', "a JSON text"),
        (b"GGUF\x03\0\0\0", "a GGUF file"),
        (b"\x10\0\0\0\0\0\0\0{", "torn: it ends within its header"),
        (b"\x04\0\0\0\0\0\0\0nope", "not that of a safetensors file"),
    ],
)
def test_a_file_that_only_bears_the_name_is_told_what_it_is(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    assert plan(file) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("place", ["folder", "checkpoint"])
def test_torn_weights_are_refused(
    place: str, request: pytest.FixtureRequest, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base: Path = request.getfixturevalue(place)
    file = base / UNET if base.is_dir() else base
    with open(file, "r+b") as stream:
        stream.truncate(file.stat().st_size - 100)
    assert plan(base) == 2
    assert "torn" in capsys.readouterr().err


def edit_json(part: str, changes: Mapping[str, Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / part
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return edit


@pytest.mark.parametrize(
    ("ruin", "said"),
    [
        (edit_json("text_encoder/config.json", {"hidden_size": 1024}), "its text encoder gives 1024"),
        (edit_json("text_encoder/config.json", {"architectures": ["T5EncoderModel"]}), "got T5EncoderModel"),
        (edit_json("unet/config.json", {"addition_embed_type": "text_time"}), "wants sizes too"),
        (edit_json("vae/config.json", {"latent_channels": 16}), "4 latent channels, got 16"),
        (edit_json("scheduler/scheduler_config.json", {"beta_schedule": "warped"}), "got warped"),
        (edit_json("scheduler/scheduler_config.json", {"num_train_timesteps": 0}), ">= 1, got 0"),
        (lambda folder: (folder / "tokenizer" / "tokenizer.json").write_text("{"), "readable tokenizer/"),
        (
            lambda folder: (folder / UNET).rename(folder / "unet" / "lora.safetensors"),
            "as diffusers names it",
        ),
    ],
)
def test_folders_that_do_not_fit_together_are_refused(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str], ruin: Callable[[Path], Any], said: str
) -> None:
    ruin(folder)
    assert plan(folder) == 2
    assert said in capsys.readouterr().err


def test_a_missing_shard_is_named(folder: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = {"weight_map": {"conv_in.weight": Path(UNET).name, "conv_out.weight": "second.safetensors"}}
    (folder / f"{UNET}.index.json").write_text(json.dumps(listed))
    assert plan(folder) == 2
    assert "got none of second.safetensors" in capsys.readouterr().err


def test_a_weight_that_the_index_lists_and_no_file_holds_is_named(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = dict.fromkeys([*load_file(folder / UNET), "conv_in.gone"], Path(UNET).name)
    (folder / f"{UNET}.index.json").write_text(json.dumps({"weight_map": listed}))
    assert plan(folder) == 2
    assert "must hold what the index of unet/ lists" in (said := capsys.readouterr().err)
    assert "without conv_in.gone" in said


def test_a_folder_of_checkpoints_is_answered_with_its_files(
    checkpoint: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(checkpoint.parent) == 2
    assert f"give one of its files: base.path={checkpoint}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "where"), [("base.clip_skip=3", "base.clip_skip"), ("base.bucket_step=2", "base.bucket_step")]
)
def test_options_that_the_base_cannot_do_are_refused(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str], word: str, where: str
) -> None:
    assert plan(folder, word) == 2
    assert where in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ prediction


def mark(checkpoint: Path, *names: str) -> None:
    change(checkpoint, lambda tensors: tensors.update({name: torch.zeros(0) for name in names}))


def test_a_marked_checkpoint_predicts_v(checkpoint: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = stable_diffusion.fingerprint(
        BaseOptions(name="stable_diffusion", path=str(checkpoint), resolution=32, bucket_step=8)
    )
    mark(checkpoint, "v_pred")
    base = load(checkpoint)
    assert base.noise_schedule.config.prediction_type == "v_prediction"
    assert pipeline_of(base, "ddim").scheduler.config.prediction_type == "v_prediction"
    assert base.fingerprint != plain
    assert load(checkpoint, prediction_type="epsilon").noise_schedule.config.prediction_type == "epsilon"
    assert plan(checkpoint) == 0
    assert any("is marked v_pred" in text for text in json.loads(capsys.readouterr().out)["warnings"])


def test_zero_terminal_snr_is_drawn_from_the_last_timestep(checkpoint: Path) -> None:
    mark(checkpoint, "v_pred", "ztsnr")
    base = load(checkpoint)
    assert base.noise_schedule.alphas_cumprod[-1] == 0
    for sampler in ("ddim", "euler", "dpmpp_2m"):
        scheduler = pipeline_of(base, sampler).scheduler
        scheduler.set_timesteps(4)
        assert scheduler.timesteps[0] == 999, sampler
        picture = pipeline_of(base, sampler)("zkw", num_inference_steps=2, height=32, width=32, output_type="np")
        assert torch.tensor(picture.images).isfinite().all()


@pytest.mark.parametrize("place", ["folder", "checkpoint"])
def test_the_recipe_says_what_the_files_do_not(
    place: str, request: pytest.FixtureRequest, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path: Path = request.getfixturevalue(place)
    plain, told = load(path), load(path, prediction_type="v_prediction")
    assert told.noise_schedule.config.prediction_type == "v_prediction"
    assert told.fingerprint != plain.fingerprint and told.vae_fingerprint == plain.vae_fingerprint
    assert load(path, prediction_type="epsilon").fingerprint == plain.fingerprint
    assert plan(path, "base.prediction_type=v_prediction") == 0
    found = json.loads(capsys.readouterr().out)["warnings"]
    assert any("though the base's own files say epsilon" in text for text in found)


@pytest.mark.parametrize("place", ["folder", "checkpoint"])
def test_min_snr_of_epsilon_with_zero_terminal_snr_is_refused(
    place: str, request: pytest.FixtureRequest, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path: Path = request.getfixturevalue(place)
    if path.is_dir():
        edit_json("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True})(path)
    else:
        mark(path, "ztsnr")
    assert plan(path, "noise.min_snr_gamma=5") == 2
    assert "noise.min_snr_gamma" in capsys.readouterr().err
    assert plan(path) == 0
    assert plan(path, "noise.min_snr_gamma=5", "base.prediction_type=v_prediction") == 0
    out = capsys.readouterr().out
    assert "the last timestep of a base with zero terminal SNR the weight 0" in out.replace("\\n", " ")


@pytest.mark.parametrize(
    ("levels", "refused"),
    [
        (["noise.high=0.9996"], True),
        (["noise.low=0.9991", "noise.high=0.9994"], True),
        (["noise=logit_normal", "noise.mean=10", "noise.high=0.9991"], True),
        (["noise=logit_normal", "noise.mean=10", "noise.std=10", "noise.high=0.999"], True),
        (["noise=logit_normal", "noise.mean=10", "noise.std=10", "noise.high=0.998"], False),
        (["noise.high=0.999"], False),
    ],
)
@pytest.mark.parametrize("weight", ["noise.min_snr_gamma=5", "noise.debiased=true"])
def test_what_divides_by_the_snr_is_refused_where_the_last_timestep_can_be_drawn(
    checkpoint: Path, home: Path, capsys: pytest.CaptureFixture[str], weight: str, levels: list[str], refused: bool
) -> None:
    mark(checkpoint, "ztsnr")
    path = load(checkpoint).path
    recipe = compose_recipe(overrides=words(checkpoint, weight, *levels))
    t = draw_levels(path, 20_000, torch.Generator().manual_seed(0), recipe.noise, shift=1)
    weights = level_weights(path, t, recipe.noise)
    assert weights is not None and bool(weights.isfinite().all()) is not refused
    assert plan(checkpoint, weight, *levels) == (2 if refused else 0)
    assert ("zero terminal SNR" in capsys.readouterr().err) is refused


@pytest.mark.slow
def test_a_marked_checkpoint_is_trained_and_judged(
    checkpoint: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark(checkpoint, "v_pred", "ztsnr")
    small = ["train.max_steps=2", "train.rungs=1", "sample.steps=1", "sample.seeds=[0]", "tracking=none"]
    assert main(["train", "--json", *words(checkpoint, "noise.min_snr_gamma=5", *small)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["status"] == "COMPLETED" and "overcook/score" in result["metrics"]


def test_hidden_copies_of_macos_are_no_files_of_a_base(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(folder) == 0
    before = json.loads(capsys.readouterr().out)
    for file in [each for each in folder.rglob("*") if each.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\x05\x16\x07\0\2\0\0Mac OS X")
    assert plan(folder) == 0
    after = json.loads(capsys.readouterr().out)
    assert after["fingerprint"] == before["fingerprint"]
    assert after["warnings"] == before["warnings"]
