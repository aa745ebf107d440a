"""musubi-tuner's files, and the command lines that start a training, as people have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorasweep.cli import main

DATASET = """
[general]
resolution = [1024, 1024]
caption_extension = ".txt"
batch_size = 2
enable_bucket = true

[[datasets]]
image_directory = "{images}"
cache_directory = "/cache"
num_repeats = 3
"""
OPTIONS = {
    "dit": "/m/it.safetensors",
    "vae": "/m/vae.safetensors",
    "text_encoder": "/m/te.safetensors",
    "sdpa": True,
    "mixed_precision": "bf16",
    "fp8_base": True,
    "fp8_scaled": True,
    "weighting_scheme": "none",
    "optimizer_type": "adamw",
    "learning_rate": 1e-4,
    "network_dim": 32,
    "max_train_epochs": 2,
    "seed": 42,
    "output_dir": "out",
}
NETWORKS: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [  # options, what they become, what differs
    (
        "networks.lora_zimage",
        {"timestep_sampling": "shift", "discrete_flow_shift": 2.0},
        {"base": "z_image", "noise.shift": 2.0, "noise.levels": "logit_normal", "adapter.targets": "attn-mlp"},
        [],
    ),
    (
        "networks.lora_qwen_image",
        {"timestep_sampling": "qwen_shift", "model_version": "original"},
        {"base": "qwen_image", "noise.shift": "dynamic", "adapter.targets": "attn-mlp"},
        [],
    ),
    (
        "networks.lora_flux_2",
        {"timestep_sampling": "flux2_shift", "model_version": "klein-base-9b"},
        {"base": "flux2_klein", "noise.shift": "dynamic", "adapter.targets": "attn-mlp"},
        ["timestep_sampling", "network_module"],
    ),
    (
        "networks.lora_krea2",
        {"network_alpha": 32},
        {
            "base": "krea2",
            "noise.levels": "uniform",
            "noise.shift": 1.0,
            "adapter.targets": "full",
            "adapter.alpha": 32,
        },
        ["network_module"],
    ),
    (
        "networks.lora_ideogram4",
        {},
        {
            "base": "ideogram4",
            "noise.levels": "logit_normal",
            "noise.std": 1.5,
            "noise.shift": "dynamic",
            "adapter.targets": "attn-mlp",
        },
        [],
    ),
]


def as_toml(options: dict[str, Any]) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items())


def as_command(options: dict[str, Any]) -> str:
    words = [f"--{name}" if value is True else f"--{name} {value}" for name, value in options.items()]
    return "#!/bin/bash\n# accelerate launch old_train_network.py --seed 1\nexport A=1\naccelerate launch \\\n  " + (
        "src/musubi_tuner/x_train_network.py \\\n  " + " \\\n  ".join(words) + " 2>&1\necho --seed 7\n"
    )


@pytest.mark.parametrize("write", [as_toml, as_command])
@pytest.mark.parametrize(("network", "more", "wanted", "differs"), NETWORKS)
def test_its_options_become_a_recipe(
    network: str,
    more: dict[str, Any],
    wanted: dict[str, Any],
    differs: list[str],
    write: Callable[[dict[str, Any]], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "d.toml").write_text(DATASET.format(images="/img"), encoding="utf-8")
    options = {**OPTIONS, "network_module": network, "dataset_config": str(tmp_path / "d.toml"), **more}
    (tmp_path / "it").write_text(write(options), encoding="utf-8")
    assert main(["import", str(tmp_path / "it"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    common = {
        "base.path": "???",
        "base.weights": "/m/it.safetensors",
        "base.resolution": 1024,
        "base.bucket_step": 16,
        "buckets.min_side": 256,  # of 512: half of a square's side
        "dataset.path": "/img",
        "dataset.repeats": 3,
        "adapter.text_encoder": False,
        "memory.storage": "fp8",
        "train.batch_size": 2,
        "train.precision": "bf16",
        "seed": 42,
    }
    wanted = {**common, **wanted}
    assert {key: found["recipe"].get(key) for key in wanted} == wanted
    assert [note["option"] for note in found["untranslated"]] == ["dit"]
    assert {note["option"] for note in found["differs"]} == {"validation_split", "mixed_precision", *differs}


@pytest.mark.parametrize(
    ("network", "options", "wanted", "untranslated", "differs"),
    [
        (  # of log-SNR, which is -2 logit(level)
            "lora_zimage",
            {"timestep_sampling": "logsnr", "logit_mean": 1.0, "logit_std": 2.0},
            {"levels": "logit_normal", "mean": -0.5, "std": 1.0, "shift": 1.0},
            [],
            [],
        ),
        (
            "lora_qwen_image",
            {"timestep_sampling": "qinglong_qwen"},
            {"levels": "logit_normal", "shift": "dynamic"},
            ["timestep_sampling"],
            [],
        ),
        # its scheduler is built without the shift, and counts from pure noise
        ("lora_zimage", {"discrete_flow_shift": 3.0}, {"levels": "uniform", "shift": 1.0}, [], []),
        (
            "lora_zimage",
            {"max_timestep": 500, "weighting_scheme": "logit_normal", "logit_mean": 0.8, "logit_std": 0.5},
            {"levels": "logit_normal", "mean": -0.8, "std": 0.5, "low": 0.5, "high": 1.0},
            [],
            ["max_timestep"],
        ),
        (
            "lora_zimage",
            {
                "timestep_sampling": "shift",
                "discrete_flow_shift": 2.0,
                "min_timestep": 200,
                "preserve_distribution_shape": True,
                "weighting_scheme": "cosmap",
            },
            {"levels": "logit_normal", "shift": 2.0, "low": 0.2, "high": 1.0},
            ["weighting_scheme", "preserve_distribution_shape"],
            [],
        ),
        # sd-scripts': its own default, and no range
        ("lora_anima", {"min_timestep": 200}, {"levels": "logit_normal", "std": 1.0, "low": 0.0}, [], []),
        (
            "lora_flux",
            {"weighting_scheme": "logit_normal", "model_prediction_type": "raw", "guidance_scale": 1.0},
            {"levels": "logit_normal", "mean": 0.0, "shift": 3.0},
            [],
            [],
        ),
    ],
)
def test_levels_are_those_that_the_trainer_draws(
    network: str,
    options: dict[str, Any],
    wanted: dict[str, Any],
    untranslated: list[str],
    differs: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Numbers held against 20,000 levels that musubi-tuner's own function draws, at 30c658c."""
    given = {"network_module": f"networks.{network}", "network_dim": 8, "resolution": "512,512", "seed": 1, **options}
    (tmp_path / "it.toml").write_text(as_toml(given), encoding="utf-8")
    assert main(["import", str(tmp_path / "it.toml"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {key: found["recipe"].get(f"noise.{key}") for key in wanted} == wanted
    asked = {"timestep_sampling", *options}
    assert [note["option"] for note in found["untranslated"] if note["option"] in asked] == untranslated
    assert [note["option"] for note in found["differs"] if note["option"] in asked] == differs


def test_a_network_as_an_installed_one_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {**OPTIONS, "network_module": "musubi_tuner.networks.lora_zimage"}
    del options["mixed_precision"]
    (tmp_path / "it.toml").write_text(as_toml(options), encoding="utf-8")
    assert main(["import", str(tmp_path / "it.toml"), "--json"]) == 0
    recipe = json.loads(capsys.readouterr().out)["recipe"]
    # Its own size and precision, not sd-scripts'.
    assert recipe["base"] == "z_image" and recipe["buckets.sizes"] == [[960, 544]]
    assert recipe["train.precision"] == "bf16"


def test_what_was_imported_is_planned(
    tiny_flow: Callable[[str], Path], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "images").mkdir()
    for number in range(4):
        Image.new("RGB", (64, 64), (40 * number, 80, 120)).save(home / "images" / f"{number}.png")
        (home / "images" / f"{number}.txt").write_text("zkw, red hair", encoding="utf-8")
    (home / "d.toml").write_text(DATASET.format(images=home / "images"), encoding="utf-8")
    options = {"network_module": "networks.lora_zimage", "dataset_config": str(home / "d.toml"), "max_train_steps": 4}
    (home / "it.toml").write_text(as_toml(options), encoding="utf-8")
    assert main(["import", str(home / "it.toml"), "-o", str(home / "r.yaml")]) == 0
    words = [f"base.path={tiny_flow('z_image')}", "base.resolution=32", "captions.trigger=zkw"]
    assert main(["plan", str(home / "r.yaml"), *words]) == 0


def test_a_command_of_sd_scripts_is_read_as_its_toml_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.bat").write_text(
        "cd /d %~dp0\r\naccelerate launch --num_processes 1 sdxl_train_network.py ^\r\n"
        ' --pretrained_model_name_or_path="D:\\models\\it.safetensors" --train_data_dir "D:\\img" ^\r\n'
        ' --resolution=1024,1024 --network_module=networks.lora --network_args "conv_dim=8" "conv_alpha=4" ^\r\n'
        " --network_dim=16 --seed=3 --cache_latents && pause\r\n",
        encoding="utf-8",
    )
    assert main(["import", str(tmp_path / "train.bat"), "--json"]) == 0
    recipe = json.loads(capsys.readouterr().out)["recipe"]
    wanted = {"base": "sdxl", "base.path": "D:\\models\\it.safetensors", "dataset.path": "D:\\img", "adapter": "locon"}
    wanted |= {"adapter.conv_dim": 8, "adapter.dim": 16, "seed": 3, "base.resolution": 1024}
    assert {key: recipe.get(key) for key in wanted} == wanted


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("t.bat", 'set M=D:\\my models\nset "LR=2e-4"\ntrain_network.py --unet_lr=%lr% --base="%M%\\x.safetensors"'),
        (
            "t.sh",
            "LR=2e-4 # high\nexport M='D:\\my models'\ntrain_network.py --unet_lr ${LR} --base=\"$M\\x.safetensors\"",
        ),
        (
            "t.ps1",
            '$M = "D:\\my models" # where\n$lr = 2e-4\n$env:X = 1\n$file = "./train_network.py"\n'
            'python $file `\n --unet_lr=$lr `\n --base="$M\\x.safetensors"',
        ),
        (
            "e.sh",  # variables for one command, a default for what is told from outside
            "M=\"${MODELS:-D:\\my models}\"\nA=0 B='x y' python train_network.py --unet_lr=${LR-2e-4} "
            '--base="$M\\x.safetensors"',
        ),
    ],
)
def test_variables_that_the_script_sets_are_filled_in(
    name: str, script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = script.replace("--base", "--network_module=networks.lora --pretrained_model_name_or_path")
    (tmp_path / name).write_text(script, encoding="utf-8")
    assert main(["import", str(tmp_path / name), "--json"]) == 0
    recipe = json.loads(capsys.readouterr().out)["recipe"]
    assert (recipe["base.path"], recipe["optimizer.lr"]) == ("D:\\my models\\x.safetensors", 2e-4)


@pytest.mark.parametrize(
    ("script", "word"),
    [
        (
            'module="networks.lora"\nif [ $x ]; then\n  module="lycoris.kohya"\nfi\n%s --network_module=$module',
            "$module",
        ),
        ("$more = [System.Collections.ArrayList]::new()\n%s --network_module=networks.lora $more", "$more"),
        ("more=()\n%s --network_module=networks.lora $more", "$more"),
    ],
)
def test_a_variable_that_a_branch_sets_is_refused(
    script: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.sh").write_text(script % "train_network.py --network_dim=8" + "\n", encoding="utf-8")
    assert main(["import", str(tmp_path / "t.sh")]) == 2
    err = capsys.readouterr().err
    assert "or not to one value" in err and word in err


@pytest.mark.parametrize(
    "word",
    [
        *("--seed=$SEED", '"${args[@]}"', "--train_data_dir=%~dp0img", "--seed $(date)", "@params"),
        *("--train_data_dir=%%d", "--train_data_dir=!dir!", "--train_data_dir={here}"),
    ],
)
def test_variables_that_it_does_not_set_are_refused_by_name(
    word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (f"{word} --network_module=networks.lora", f"--network_module=networks.lora --network_dim=8 {word}"):
        (tmp_path / "t.sh").write_text(f"SEEDS=1\ntrain_network.py {words}\n", encoding="utf-8")
        assert main(["import", str(tmp_path / "t.sh")]) == 2
        err = capsys.readouterr().err
        assert "variables that it does not set" in err and word.partition("=")[2].strip('"') in err


@pytest.mark.parametrize("ending", ["> log.txt 2>&1 &\n", ">log.txt\n", "| tee log\n", "# --seed=9\n", "", " \\"])
def test_what_stands_behind_a_command_and_where_its_files_go_is_none_of_its_options(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--network_module=networks.lora --output_name a#b-$(date +%Y_%m) --output_dir=$OUT/x --logging_dir $LOG"
    script = f'OUT="$(cd "$(dirname "$0")/.." && pwd)"\naccelerate launch train_network.py {words} --seed=3 {ending}'
    (tmp_path / "t.sh").write_text(script, encoding="utf-8")
    assert main(["import", str(tmp_path / "t.sh"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["seed"] == 3


def test_a_value_in_quotes_is_a_value_whatever_it_looks_like(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = (
        "# train_network.py --seed=1\n: for more, `train_network.py --help` (a lot)\n"
        "if [ ! -f train_network.py ]; then exit; fi\n"
        'echo "train_network.py is at it"\nIMAGES=/data/#1/it\n'
        'accelerate launch --num_processes=2 train_network.py --network_module networks.lora --caption_separator "|" '
        "--metadata_title '#1; it' --train_data_dir=$IMAGES --keep_tokens_separator '||' --network_dim 8 --seed 3; ls\n"
    )
    (tmp_path / "t.sh").write_text(script, encoding="utf-8")
    assert main(["import", str(tmp_path / "t.sh"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["recipe"]["seed"], found["recipe"]["adapter.dim"]) == (3, 8)
    assert (found["recipe"]["captions.separator"], found["recipe"]["dataset.path"]) == ("| ", "/data/#1/it")
    assert {"keep_tokens_separator", "num_processes"} <= {note["option"] for note in found["untranslated"]}


def test_an_option_may_be_begun_as_argparse_has_it_and_the_last_of_two_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "--max_train_epoch 50 --max_train_steps 400 --network_arg conv_dim=4 --seed 1 --network_args conv_dim=8 --lr 1"
    )
    (tmp_path / "t.sh").write_text(f"train_network.py --network_module=networks.lora {words}\n", encoding="utf-8")
    assert main(["import", str(tmp_path / "t.sh"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipe"]["train.epochs"] == 50 and found["recipe"]["train.max_steps"] is None
    assert found["recipe"]["adapter.conv_dim"] == 8 and found["recipe"]["seed"] == 1
    assert [note["option"] for note in found["untranslated"] if "known here" in note["reason"]] == ["lr"]  # of several


@pytest.mark.parametrize("named", ["mine.toml", "mine", "configs/mine.toml"])
def test_a_command_that_reads_a_toml_is_that_toml_with_its_own_options_over_it(
    named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = 'max_train_steps = 9\n[a]\nnetwork_module = "networks.lora"\nnetwork_dim = 4\nseed = 5\n'
    place = tmp_path / (named if named.endswith(".toml") else f"{named}.toml")
    place.parent.mkdir(exist_ok=True)
    place.write_text(toml, encoding="utf-8")
    command = f"accelerate launch --config_file=a.yaml sdxl_train_network.py --config_file={named} --network_dim=8\n"
    (tmp_path / "t.sh").write_text(command, encoding="utf-8")
    assert main(["import", str(tmp_path / "t.sh"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = {"base": "sdxl", "adapter.dim": 8, "seed": 5, "train.max_steps": 9}
    assert {key: found["recipe"][key] for key in wanted} == wanted
    (lost,) = (note for note in found["untranslated"] if note["option"] == "network_dim")
    assert lost["value"] == 4 and "as in [the command line]" in lost["reason"]


def test_a_command_whose_toml_is_itself_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.toml").write_text("python train_network.py --config_file=t.toml\n", encoding="utf-8")
    assert main(["import", str(tmp_path / "t.toml")]) == 2
    assert "a command line" in capsys.readouterr().err
