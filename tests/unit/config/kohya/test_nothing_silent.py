"""Files as people have them, through the command line: what is read, named, or refused and how."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorasweep.cli import main
from lorasweep.config.kohya.options import TABLE

Answer = dict[str, Any]
BASE = 'pretrained_model_name_or_path = "/m.safetensors"\ntrain_data_dir = "/data"\nresolution = "512,512"\n'
BASE += 'network_module = "networks.lora"\nseed = 1\ncaption_extension = ".txt"\n'
SMALL = ["base=dollhouse", "base.path=null", "base.resolution=64", "base.bucket_step=8"]


@pytest.fixture
def answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Import the text of a TOML by the command line; returns its JSON."""

    def run(text: str, *words: str) -> Answer:
        (tmp_path / "c.toml").write_text(text, encoding="utf-8")
        assert main(["import", str(tmp_path / "c.toml"), *words, "--json"]) == 0
        found: Answer = json.loads(capsys.readouterr().out)
        return found

    return run


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Import a file that is refused; returns what is said."""

    def run(content: str | bytes, name: str = "c.toml", *words: str) -> str:
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        out = tmp_path / "r.yaml"
        assert main(["import", str(tmp_path / name), *words, "-o", str(out)]) == 2
        assert not out.exists()
        return capsys.readouterr().err

    return run


def told(found: Answer, list_name: str = "untranslated") -> dict[str, str]:
    return {row["option"]: row["reason"] for row in found[list_name]}


# ------------------------------------------------------------------------ sections, and what stands where


def test_training_options_under_general_are_read_as_sd_scripts_joins_all_sections(
    answer: Callable[..., Answer],
) -> None:
    recipe = answer(f"[general]\n{BASE}learning_rate = 1e-4\nnetwork_dim = 32\n[x]\nmax_train_steps = 7\n")["recipe"]
    assert recipe["base.path"] == "/m.safetensors" and recipe["adapter.dim"] == 32
    assert recipe["optimizer.lr"] == 1e-4 and recipe["train.max_steps"] == 7


def test_one_file_may_hold_the_training_options_under_general_and_the_datasets(
    answer: Callable[..., Answer],
) -> None:
    subset = '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "/a"\n'
    recipe = answer(f"[general]\nresolution = 768\nnetwork_dim = 32\n{subset}")["recipe"]
    assert recipe["base.resolution"] == 768 and recipe["adapter.dim"] == 32 and recipe["dataset.path"] == "/a"


def test_sections_may_be_json_as_notebooks_print_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sections = {
        "network": {"network_module": "networks.lora", "network_dim": 8, "network_dropout": None},
        "b": {"seed": 2},
    }
    (tmp_path / "c.json").write_text(json.dumps(sections), encoding="utf-8")
    assert main(["import", str(tmp_path / "c.json"), "--json"]) == 0
    recipe = json.loads(capsys.readouterr().out)["recipe"]
    assert recipe["adapter.dim"] == 8 and recipe["seed"] == 2


def test_a_section_of_sdxls_own_says_the_base(answer: Callable[..., Answer]) -> None:
    assert answer(f"{BASE}[sdxl_arguments]\nno_half_vae = true\n")["recipe"]["base"] == "sdxl"
    assert answer(f"{BASE}cache_text_encoder_outputs = true\n")["recipe"]["base"] == "sdxl"
    assert answer(f"{BASE}cache_text_encoder_outputs = false\n")["recipe"]["base"] == "stable_diffusion"


def test_what_stands_in_two_sections_is_told_with_what_counts(answer: Callable[..., Answer]) -> None:
    found = answer(f"{BASE}[a]\nnetwork_dim = 8\nclip_skip = 2\n[b]\nnetwork_dim = 16\nclip_skip = 2\n")
    assert found["recipe"]["adapter.dim"] == 16
    assert "last one counts" in told(found)["network_dim"] and "clip_skip" not in told(found)


def test_a_dataset_file_wins_over_the_training_file_and_the_loser_is_named(
    answer: Callable[..., Answer], tmp_path: Path
) -> None:
    text = '[general]\nresolution = 768\n[[datasets]]\nbatch_size = 3\n[[datasets.subsets]]\nimage_dir = "/a"\n'
    (tmp_path / "d.toml").write_text(text)
    (tmp_path / "d.json").write_text(
        '{"general": {"resolution": 768}, "datasets": [{"batch_size": 3, "subsets": [{"image_dir": "/a"}]}]}'
    )
    training = f'{BASE}train_batch_size = 2\nreg_data_dir = "/reg"\n'
    for name in ("d.toml", "d.json"):
        found = answer(training, "--dataset", str(tmp_path / name))
        assert found["recipe"]["base.resolution"] == 768 and found["recipe"]["train.batch_size"] == 3
        assert "dataset file" in told(found, "left_out")["train_batch_size"]
        assert {"resolution", "reg_data_dir"} <= told(found, "left_out").keys()
        assert "train_data_dir" in told(found, "differs")


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ('"num_repeats": 2, "num_repeats": 3', "`num_repeats` is given twice"),
        ('"num_repeats": 18446744073709551616', "datasets[0].subsets[0].num_repeats is a larger number"),
        ('"num_repeats": 2,,', "is not JSON: "),
    ],
)
def test_a_dataset_file_of_json_is_read_as_strictly_as_a_toml(
    given: str, what: str, refusal: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "d.json").write_text(f'{{"datasets": [{{"subsets": [{{"image_dir": "/a", {given}}}]}}]}}')
    assert what in refusal(BASE, "c.toml", "--dataset", str(tmp_path / "d.json"))


def test_class_tokens_change_no_caption_and_name_the_linked_folder(
    answer: Callable[..., Answer], tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    subset = f'[[datasets]]\n[[datasets.subsets]]\nimage_dir = "{tmp_path}/images"\nnum_repeats = 3\n'
    text = f'{BASE}{subset}class_tokens = "zkw coat"\n'
    found = answer(text)
    assert not any(key.startswith("captions.trigger") for key in found["recipe"])
    assert "--link" in told(found)["class_tokens"] and found["recipe"]["dataset.repeats"] == 3
    found = answer(text, "--link", str(tmp_path / "links"))
    assert [path.name for path in (tmp_path / "links").iterdir()] == ["3_zkw coat"]
    assert "class_tokens" in told(found, "left_out") and "dataset.repeats" not in found["recipe"]
    for folder, kind in (("/img/3_zkw coat", "left_out"), ("/img/my_zkw coat", "untranslated")):
        found = answer(f'{BASE}[[datasets]]\n[[datasets.subsets]]\nimage_dir = "{folder}"\nclass_tokens = "zkw coat"\n')
        assert "class_tokens" in told(found, kind)  # a folder that is named so has these words as they are


def test_a_folder_that_is_named_twice_is_not_trained_once(answer: Callable[..., Answer]) -> None:
    """sd-scripts trains on it twice; the folder of both would hold it once."""
    twice = '[[datasets.subsets]]\nimage_dir = "/img/10_zkw"\nnum_repeats = 10\n' * 2
    found = answer(f"{BASE}[[datasets]]\n{twice}")
    assert found["to_give"] == ["dataset.path"] and "--link" in told(found)["image_dir"]


def test_what_other_subsets_say_is_named(answer: Callable[..., Answer]) -> None:
    found = answer(
        f'{BASE}[[datasets]]\n[[datasets.subsets]]\nimage_dir = "/a"\nclass_tokens = "zkw coat"\n'
        '[[datasets.subsets]]\nimage_dir = "/b"\nclass_tokens = "zkw hat"\ncaption_prefix = "x"\n'
        '[[datasets.subsets]]\nimage_dir = "/skipped"\nnum_repeats = 0\n'
        '[[datasets.subsets]]\nimage_dir = "/r"\nis_reg = true\nclass_tokens = "girl"\nflip_aug = true\n'
    )
    missing = told(found)
    assert "repeated 0 times" in missing["subsets[3]"] and "first subset" in missing["subsets.caption_prefix"]
    assert "--link" in missing["class_tokens"] and "captions.trigger" not in found["recipe"]
    assert "is_reg.flip_aug" in missing and "1_girl" in told(found, "differs")["is_reg.class_tokens"]


# ----------------------------------------------------------------------------- the programs that write it


EASY = """
[[subsets]]
name = "zkw"
num_repeats = 4
keep_tokens = 1
caption_extension = ".txt"
image_dir = "C:/img/zkw"
[train_mode]
train_mode = "lora"
[general_args.args]
pretrained_model_name_or_path = "/models/sd15.safetensors"
seed = 23
clip_skip = 2
max_train_epochs = 10
[general_args.dataset_args]
resolution = 768
batch_size = 2
[network_args.args]
network_dim = 16
network_alpha = 8.0
[network_args.args.network_args]
algo = "loha"
preset = "attn-mlp"
[optimizer_args.args]
optimizer_type = "AdamW"
lr_scheduler = "cosine"
lr_scheduler_type = "LoraEasyCustomOptimizer.CosineAnnealingWarmRestarts.CosineAnnealingWarmRestarts"
lr_scheduler_num_cycles = 4
learning_rate = "5e-4"
warmup_ratio = 0.1
min_snr_gamma = 5
[optimizer_args.args.lr_scheduler_args]
gamma = 0.8
[optimizer_args.args.optimizer_args]
weight_decay = "0.1"
amsgrad = "false"
[bucket_args.dataset_args]
enable_bucket = true
"""


def test_what_easy_training_scripts_saves_is_translated(answer: Callable[..., Answer]) -> None:
    found = answer(EASY)
    expected = {
        "base.clip_skip": 2,
        "base.resolution": 768,
        "seed": 23,
        "dataset.path": "C:/img/zkw",
        "dataset.repeats": 4,
        "captions.keep_tokens": 1,
        "buckets": "kohya",
        "adapter": "loha",
        "adapter.dim": 16,
        "adapter.targets": "attn-mlp",
        "optimizer.lr": 5e-4,
        "optimizer.weight_decay": 0.1,
        "scheduler": "annealed_cosine_warmup_restarts",
        "scheduler.num_cycles": 4,
        "scheduler.gamma": 0.8,
        "scheduler.warmup": 0.1,
        "train.epochs": 10,
        "train.batch_size": 2,
        "noise.min_snr_gamma": 5.0,
    }
    assert {key: found["recipe"].get(key) for key in expected} == expected
    assert told(found).keys() == {"optimizer_args.amsgrad"}


def test_easy_training_scripts_for_something_else_than_a_lora_is_refused(refusal: Callable[..., str]) -> None:
    said = refusal(EASY.replace('train_mode = "lora"', 'train_mode = "textual_inversion"'))
    assert "Easy Training Scripts" in said and "textual_inversion" in said


def test_the_defaults_of_a_window_are_no_loss(answer: Callable[..., Answer]) -> None:
    found = answer(
        f"""{BASE}
        bucket_reso_steps = 64
        clip_skip = 1
        color_aug = false
        dynamo_backend = "no"
        enable_bucket = true
        epoch = 10
        huber_c = 0.1
        huber_schedule = "snr"
        learning_rate = 1e-4
        loss_type = "l2"
        lr_scheduler = "cosine"
        lr_scheduler_args = []
        lr_scheduler_num_cycles = 1
        lr_scheduler_power = 1
        max_bucket_reso = 2048
        max_timestep = 1000
        max_token_length = 75
        max_train_steps = 1600
        min_snr_gamma = 0
        min_timestep = 0
        mixed_precision = "no"
        network_alpha = 16
        network_args = []
        network_dim = 32
        noise_offset_type = "Original"
        optimizer_args = []
        optimizer_type = "AdamW"
        prior_loss_weight = 1
        text_encoder_lr = [1e-4, 1e-4]
        unet_lr = 1e-4
        vae = ""
        """
    )
    assert found["untranslated"] == [] and found["recipe"]["noise.min_snr_gamma"] is None
    assert found["recipe"]["noise.high"] == 1.0


@pytest.mark.parametrize(
    ("name", "content", "what", "next_step"),
    [
        ("st.env", "export MODEL_NAME=foo\nTRACKER_RUN_NAME=x\n", "SimpleTuner", "flags.md"),
        ("dp.toml", '[adapter]\ntype = "lora"\nrank = 32\n', "diffusion-pipe", "flags.md"),
        (
            "d.sh",
            "accelerate launch train_controlnet.py \\\n  --rank=4\n",
            "command line",
            "flags.md",
        ),
        (
            "k.sh",
            "accelerate launch sdxl_train_network.py --config_file=mine.toml --network_dim=8\n",
            "a command line that reads mine.toml, which is not here",
            "beside it",
        ),
        ("k.sh", "accelerate launch train_network.py --network_dim='8\n", "command line", "flags.md"),
        ("colab.ipynb", '{"nbformat": 4, "cells": []}', "notebook", "TOML"),
        ("x.json", '{"a": 1}', "JSON", "flags.md"),
        (
            "q.toml",
            '_source_script = "3"\narch = "x"\nlearning_rate = 1e-4\n',
            "a window over musubi-tuner",
            "flags.md",
        ),
        (
            "b.sh",
            't="train_network.py"\nif [ $x ]; then\n t="x.py"\nfi\npython $t --seed=1\n',
            "branches",
            "of its own",
        ),
        ("ltx.toml", 'network_module = "networks.lora_ltx2"\n', "lora_ltx2", "flags.md"),
        ("no.toml", f"{BASE}[[datasets]]\n[[datasets.subsets]]\nnum_repeats = 2\n", "subsets[1].image_dir", "mend"),
        ("n.json", '{"network_module": "networks.lora", "seed": 9999999999999999999}', "a larger number", "mend"),
        ("mine.yaml", "recipe:\n  seed: 1\n", "lorasweep already", "plan"),
        ("wan.toml", 'network_module = "networks.lora_wan"\n', "lora_wan", "flags.md"),
        ("an.toml", 'network_module = "lycoris.kohya"\nqwen3 = "/m"\n', "Anima", "FLUX.1 and Chroma alone"),
        ("z.toml", 'network_module = "lycoris.kohya"\ndit = "/m"\n', "got lycoris", "FLUX.1 and Chroma alone"),
        ("o.json", '{"train": {"learning_rate": 1e-4, "seed": 1}}', "JSON", "flags.md"),
        ("o.yaml", "learning_rate: 1e-4\nseed: 1\n", "YAML", "flags.md"),
        ("w.json", '{"_source_script": "3", "network_module": "x"}', "a window over musubi-tuner", "flags.md"),
        ("hv.toml", 'network_module = "networks.lora"\ndit = "/m"\n', "must be of Qwen-Image, Z-Image", "flags.md"),
        ("kontext.toml", 'network_module = "networks.lora_flux"\ndit = "/m"\n', "must be of Qwen-Image", "flags.md"),
        (
            "f2.toml",
            'network_module = "networks.lora_flux_2"\n',
            "klein-base-4b or klein-base-9b, got dev",
            "sample.base",
        ),
        (
            "qwen.toml",
            'network_module = "networks.lora_qwen_image"\nmodel_version = "edit-2511"\n',
            "must be original, got edit-2511",
            "sample.base",
        ),
        ("sd3.toml", 'seed = 1\nclip_g = "/m"\n', "SD3", "network_module"),
        ("d.toml", "[general]\nresolution = 512\n[[datasets]]\n", "dataset file", "--dataset"),
        ("named.toml", 'dataset_config = "gone.toml"\n', "gone.toml", "--dataset"),
        ("pyproject.toml", "[project]\nversion = '1'\n", "no option of sd-scripts", "flags.md"),
        ("empty.toml", "", "is empty", "flags.md"),
    ],
)
def test_a_file_that_is_something_else_is_named_with_the_next_step(
    name: str, content: str, what: str, next_step: str, refusal: Callable[..., str]
) -> None:
    said = refusal(content, name)
    assert what in said and next_step in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('output_dir = "D:\\images"', "single quotes"),
        ('train_data_dir = "D:\\new\\train"', "single quotes"),  # a line break and a tab, by TOML's rules
        ('train_data_dir = "C:\\Users\\me"', "single quotes"),
        ("seed = 1".encode("utf-16"), "UTF-8"),
        ("seed = 1".encode("utf-16-le"), "UTF-8"),
        ('output_name = "日本"'.encode("shift-jis"), "UTF-8"),
        ("seed = 1\nseed = 2", "overwrite"),
        ("seed = " + "9" * 6000, "beyond any option"),
        ("seed = 0x" + "F" * 6000, "larger number"),
        ("seed = " + "[" * 3000 + "]" * 3000, "beyond any option"),
    ],
)
def test_a_toml_that_cannot_be_read_is_refused_with_words(
    content: str | bytes, words: str, refusal: Callable[..., str]
) -> None:
    assert words in refusal(content)


def test_windows_paths_marks_and_line_ends_are_text(answer: Callable[..., Answer]) -> None:
    found = answer(
        "\ufeff" + "network_dim = 8\r\n[[datasets]]\r\n[[datasets.subsets]]\r\nimage_dir = 'D:\\img\\5_zkw'\r\n"
        "num_repeats = 5\r\n[[datasets.subsets]]\r\nimage_dir = 'D:\\img\\3_hat'\r\nnum_repeats = 3\r\n"
    )
    assert found["recipe"]["dataset.path"] == "D:\\img" and found["recipe"]["adapter.dim"] == 8


def test_a_path_with_backslashes_is_found_where_it_lies(
    answer: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written on Windows, read beside the same folders elsewhere."""
    (tmp_path / "img" / "5_zkw").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(tmp_path / "img" / "5_zkw" / "a.png")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "d.toml").write_text("[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'img\\5_zkw'\n")
    for text in (r"train_data_dir = 'img'", r"train_data_dir = '.\img'", r"dataset_config = 'sets\d.toml'"):
        found = answer(f"network_dim = 8\n{text}\n")
        assert found["recipe"]["dataset.path"] in ("img", "./img", "img/5_zkw")
        recipe = tmp_path / "recipe.yaml"
        assert main(["import", str(tmp_path / "c.toml"), "-o", str(recipe)]) == 0
        assert main(["plan", str(recipe), "base=dollhouse", "captions.trigger=zkw"]) == 0, text
        recipe.unlink()
        capsys.readouterr()


# ----------------------------------------------------------------------------------------- values


def test_zero_epochs_are_not_given(
    tmp_path: Path, home: Path, answer: Callable[..., Answer], capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        path = tmp_path / "img" / "10_zkw" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((96, 64 + number), 80).save(path)
        path.with_suffix(".txt").write_text(f"zkw, tag {number}")
    text = BASE.replace("/data", str(tmp_path / "img")) + "max_train_epochs = 0\nmax_train_steps = 500\n"
    found = answer(text, "-o", str(tmp_path / "r.yaml"))
    assert found["recipe"]["train.max_steps"] == 500 and "max_train_epochs" in told(found, "left_out")
    assert main(["plan", str(tmp_path / "r.yaml"), *SMALL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps_per_trial"] == 500


@pytest.mark.parametrize("option", sorted(name for name, row in TABLE.translated.items() if row.zero_is_unset))
def test_zero_for_not_given_is_as_if_it_were_not_there(option: str, answer: Callable[..., Answer]) -> None:
    without = answer(BASE)
    with_zero = answer(f"{BASE}{option} = 0\n")
    assert with_zero["recipe"] == without["recipe"]
    assert "not given" in told(with_zero, "left_out")[option]


@pytest.mark.parametrize(
    "name",
    ["prodigyplus.ProdigyPlusScheduleFree", "DAdaptLion", "DAdaptAdan", "pytorch_optimizer.DAdaptSGD", "DoWG"]
    + ["library.prodigy8bit.Prodigy8bit", "D_Adaptation", "x.ProdigyADV"],
)
def test_an_optimizer_that_finds_its_own_step_size_is_replaced_by_one_that_does(
    name: str, answer: Callable[..., Answer]
) -> None:
    found = answer(
        f'{BASE}optimizer_type = "{name}"\nlearning_rate = 1.0\nunet_lr = 1.0\n'
        'optimizer_args = ["d_coef=2", "use_bias_correction=true", "betas=0.9,0.99,", "use_speed=False"]\n'
    )
    recipe = found["recipe"]
    assert recipe["optimizer"] == "prodigy" and recipe["optimizer.lr"] == 1.0 and recipe["optimizer.d_coef"] == 2.0
    assert recipe["optimizer.use_bias_correction"] is True and recipe["optimizer.betas"] == [0.9, 0.99]
    assert "Prodigy stands in" in told(found)["optimizer_type"]
    assert "optimizer_args.use_speed" in told(found)
    if "ScheduleFree" in name:
        assert recipe["scheduler"] == "constant"


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ('optimizer_type = "SGDNesterov"\nlearning_rate = 1.0\ntext_encoder_lr = 0.5', "adamw"),
        ('optimizer_type = "mine.Unheard"\nunet_lr = 0.3', "adamw"),
        # relative_step is its default in sd-scripts: it finds its own step size, and no schedule moves it
        ('optimizer_type = "Adafactor"\nlearning_rate = 1.0\nlr_scheduler = "linear"', "adafactor"),
    ],
)
def test_a_rate_of_another_meaning_is_never_taken_over(text: str, ours: str, answer: Callable[..., Answer]) -> None:
    found = answer(f"{BASE}{text}\n")
    recipe, rates = found["recipe"], set(re.findall(r"\w*lr\b|learning_rate", text)) - {"lr_scheduler"}
    assert recipe["optimizer"] == ours
    assert not recipe.keys() & {"optimizer.lr", "optimizer.text_encoder_lr"}
    assert rates and all("its own lr" in told(found)[rate] for rate in rates)
    assert ours != "adafactor" or recipe["scheduler"] == "constant"


def test_a_base_that_is_not_here_is_told(answer: Callable[..., Answer]) -> None:
    option = "pretrained_model_name_or_path"
    assert "base=sdxl" in told(answer(BASE), "differs")[option]
    for text, base in (
        ('model_train_type = "sdxl-lora"', "sdxl"),
        ('model_train_type = "sd-lora"', "stable_diffusion"),
    ):
        found = answer(f"{BASE}{text}\n")
        assert found["recipe"]["base"] == base and option not in told(found, "differs")


def test_weights_to_go_on_from_that_are_not_here_are_told(answer: Callable[..., Answer]) -> None:
    found = answer(f'{BASE}network_weights = "nowhere/first.safetensors"\n')
    assert "adapter.init" in found["not_here"]


def test_v_parameterization_is_obeyed_or_named_never_harmless(answer: Callable[..., Answer]) -> None:
    found = answer(f"{BASE}v_parameterization = true\nzero_terminal_snr = true\n")
    is_obeyed = found["recipe"].get("base.prediction_type") == "v_prediction"
    assert is_obeyed or "v_parameterization" in told(found)
    assert "v_parameterization" not in told(found, "left_out")
    assert found["recipe"]["base.zero_terminal_snr"] is True


def test_an_sdxl_is_told_by_its_header_or_by_the_file(answer: Callable[..., Answer], tmp_path: Path) -> None:
    entry = {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({"conditioner.embedders.1.model.ln_final.weight": entry})
    file = tmp_path / "illustrious.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    rates = "text_encoder_lr = [5e-5, 1e-5]\nclip_skip = 2\nmax_timestep = 900\n"
    for text in (BASE.replace("/m.safetensors", str(file)), f"{BASE}sdxl = true\n"):
        found = answer(text + rates)
        assert found["recipe"]["base"] == "sdxl" and "base.clip_skip" not in found["recipe"]
        assert "last layer but one" in told(found, "left_out")["clip_skip"] and found["recipe"]["noise.high"] == 0.9
        assert found["recipe"]["optimizer.text_encoder_lr"] == 5e-5  # sd-scripts' SDXL takes the first for both
        assert "optimizer.text_encoder_lr=[5e-05,1e-05]" in told(found, "differs")["text_encoder_lr"]


def test_two_ways_to_weigh_levels_are_one(answer: Callable[..., Answer]) -> None:
    found = answer(f"{BASE}min_snr_gamma = 5\ndebiased_estimation_loss = true\n")
    assert found["recipe"]["noise.min_snr_gamma"] == 5 and found["recipe"]["noise.debiased"] is False
    assert "one way" in told(found)["debiased_estimation_loss"]


def test_captions_are_cut_there_later_where_they_say_so(answer: Callable[..., Answer]) -> None:
    for text, tokens in (("", 75), ("max_token_length = 75\n", 75), ("max_token_length = 225\n", 225)):
        found = answer(BASE + text)
        assert f"after {tokens} tokens" in told(found, "differs")["max_token_length"]
        assert "max_token_length" not in told(found)


def test_dropout_is_an_argument_of_lycoris_alone(answer: Callable[..., Answer]) -> None:
    text = 'network_dropout = 0.1\nnetwork_args = ["dropout=0.3"]\n'
    found = answer(BASE + text)
    assert found["recipe"]["adapter.dropout"] == 0.1 and "network_args.dropout" in told(found)
    found = answer(
        (BASE + text).replace("networks.lora", "lycoris.kohya").replace('"dropout', '"preset=attn-mlp", "dropout')
    )
    assert found["recipe"]["adapter.dropout"] == 0.3 and "network_dropout" in told(found, "left_out")


@pytest.mark.parametrize(("more", "dim"), [("", 16), ('"full_matrix=True", ', 100_000)])
def test_a_lokr_of_lycoris_may_be_whole(more: str, dim: int, answer: Callable[..., Answer]) -> None:
    text = BASE.replace("networks.lora", "lycoris.kohya") + f'network_dim = 16\nnetwork_args = [{more}"algo=lokr"]\n'
    found = answer(text)
    assert found["recipe"]["adapter.dim"] == dim and "network_args.full_matrix" not in told(found)


def test_datasets_of_one_resolution_are_trained_on_together(answer: Callable[..., Answer]) -> None:
    dataset = '[[datasets]]\nresolution = %d\nbatch_size = %d\n[[datasets.subsets]]\nimage_dir = "/img/%s"\n'
    folders = "".join(dataset % each for each in ((512, 4, "3_a"), (512, 2, "5_b"), (768, 1, "c")))
    found = answer(BASE.replace('train_data_dir = "/data"\nresolution = "512,512"\n', "") + folders)
    assert (
        told(found)["image_dir"].startswith("a recipe has one folder")
        and "there is one resolution" in told(found)["datasets[3]"]
    )
    (note,) = (note for note in found["untranslated"] if note["option"] == "image_dir")
    assert note["value"] == ["/img/3_a", "/img/5_b"] and found["recipe"]["train.batch_size"] == 4
    assert "subsets.batch_size" in told(found)


def test_a_dora_of_lycoris_says_how_its_magnitudes_lie(answer: Callable[..., Answer]) -> None:
    text = BASE.replace("networks.lora", "lycoris.kohya") + 'network_args = ["dora_wd=True", "preset=attn-mlp"%s]\n'
    found = answer(text % ', "wd_on_output=False"')
    assert found["recipe"]["adapter"] == "dora" and "network_args.wd_on_output" in told(found)
    found = answer(text % ', "wd_on_output=True"')
    assert told(found) == {} and "network_args.dora_wd" not in told(found, "differs")
    assert "April 2025" in told(answer(text % ""), "differs")["network_args.dora_wd"]


def test_no_convolutions_is_a_plain_lora(answer: Callable[..., Answer]) -> None:
    found = answer(f'{BASE}network_args = ["conv_dim=0", "conv_alpha=8"]\n')
    assert found["recipe"]["adapter"] == "lora" and found["recipe"]["adapter.targets"] == "attn-mlp"
    assert {"network_args.conv_dim", "network_args.conv_alpha"} <= told(found, "left_out").keys()


WAVES = 'lr_scheduler_type = "LoraEasyCustomOptimizer.CustomOptimizers.CosineAnnealingWarmupRestarts"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WAVES + 'lr_scheduler_args = ["gamma=0.9,", "min_lr=1e-7"]', {"scheduler.gamma": 0.9}),
        ('optimizer_args = ["weight_decay=0.45", "betas =0.9, 0.95"]', {"optimizer.betas": [0.9, 0.95]}),
        ('optimizer_args = "weight_decay=0.2 betas=(0.9, 0.99)"', {"optimizer.weight_decay": 0.2}),
        ('optimizer_args = "betas=0.9, 0.99, weight_decay=0.2"', {"optimizer.betas": [0.9, 0.99]}),
        ('network_args = "conv_dim=8, conv_alpha=4,"', {"adapter.conv_dim": 8, "adapter.conv_alpha": 4.0}),
        ("network_args = ['conv_dim=\"8\"', 'conv_alpha=\"4\"']", {"adapter.conv_dim": 8}),
        (
            'optimizer_type = "Prodigy"\noptimizer_args = ["safeguard_warmup=true"]',
            {"optimizer.safeguard_warmup": True},
        ),
        ('network_dim = "16"\nmax_train_steps = "500"', {"adapter.dim": 16, "train.max_steps": 500}),
    ],
)
def test_arguments_are_read_as_people_write_them(
    text: str, expected: dict[str, Any], answer: Callable[..., Answer]
) -> None:
    recipe = answer(f"{BASE}{text}\n")["recipe"]
    assert {key: recipe.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    ("text", "option"),
    [
        (
            WAVES + 'lr_scheduler_args = ["first_cycle_max_steps=0.25"]',
            "lr_scheduler_args.first_cycle_max_steps",
        ),
        (WAVES + 'lr_scheduler_args = ["warmup_steps=ten"]', "lr_scheduler_args.warmup_steps"),
        ("max_grad_norm = nan", "max_grad_norm"),
        ('max_grad_norm = "inf"', "max_grad_norm"),
        ("network_dim = 0", "network_dim"),
        ("network_dim = -4", "network_dim"),
        ("network_alpha = 'half'", "network_alpha"),
        ("shuffle_caption = 'often'", "shuffle_caption"),
        ("train_data_dir = ['/a', '/b']", "train_data_dir"),
        ("resolution = '512x512'", "resolution"),
        ("mixed_precision = 'fp12'", "mixed_precision"),
        ("learning_rate = 0", "learning_rate"),
        ('optimizer_args = ["betas=0.9"]', "optimizer_args.betas"),
        ('optimizer_args = ["weight_decay=much"]', "optimizer_args.weight_decay"),
        ('network_args = ["conv_dim=8.5"]', "network_args.conv_dim"),
        ("caption_dropout_rate = 2024-01-01", "caption_dropout_rate"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(text: str, option: str, refusal: Callable[..., str]) -> None:
    base = "" if text.split(" ")[0] in BASE else BASE
    said = refusal(f"{base}{text}\nenable_bucket = 'maybe'\n")
    assert f"  {option} " in said and "enable_bucket" in said and "2 problems" in said


def test_a_place_that_cannot_be_written_to_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.toml").write_text(BASE)
    (tmp_path / "file").write_text("")
    assert main(["import", str(tmp_path / "c.toml"), "-o", str(tmp_path / "file" / "r.yaml")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    (tmp_path / "images").mkdir()
    subset = f'[[datasets.subsets]]\nimage_dir = "{tmp_path}/images"\nclass_tokens = "{"x" * 300}"\n'
    (tmp_path / "c.toml").write_text(f"{BASE}[[datasets]]\n{subset * 2}")
    assert main(["import", str(tmp_path / "c.toml"), "--link", str(tmp_path / "links")]) == 2
    assert "links cannot be made" in capsys.readouterr().err


def test_a_misspelt_option_is_told_with_what_it_may_mean(answer: Callable[..., Answer]) -> None:
    found = told(answer(f"{BASE}lerning_rate = 1e-3\ntrain-batch-size = 2\ncolour_balance = 1.0\n"))

    assert found["lerning_rate"].endswith("did you mean `learning_rate`?")
    assert found["train-batch-size"].endswith("did you mean `train_batch_size`?")
    assert "did you mean" not in found["colour_balance"]


@pytest.mark.parametrize("option", ["wandb_api_key", "huggingface_token", "some_password"])
def test_keys_to_other_services_are_not_repeated_in_a_file_that_is_shared(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text(f'{BASE}{option} = "hunter2"\n', encoding="utf-8")
    assert main(["import", str(tmp_path / "c.toml")]) == 0
    said = capsys.readouterr()
    assert f'{option} = "***"' in said.out and "hunter2" not in said.out + said.err


NOISE = """noise_offset = 0.05
adaptive_noise_scale = 0.01
multires_noise_iterations = 8
multires_noise_discount = 0.4
ip_noise_gamma = 0.1
loss_type = "huber"
huber_c = 0.2
"""


def test_options_of_noise_and_loss_become_ours(
    answer: Callable[..., Answer], capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(BASE + NOISE)
    wanted = {"offset": 0.05, "adaptive_noise_scale": 0.01, "multires_iterations": 8, "multires_discount": 0.4}
    wanted |= {"input_perturbation": 0.1, "loss_type": "huber", "huber_c": 0.2, "huber_schedule": "snr"}
    assert {key: found["recipe"].get(f"noise.{key}") for key in wanted} == wanted
    assert found["untranslated"] == []
    words = [f"noise.{key}={value}" for key, value in wanted.items()]
    assert main(["plan", "--json", "dataset.dollhouse.images=8", *words]) == 0
    assert "noise" not in " ".join(json.loads(capsys.readouterr().out)["warnings"])
    assert main(["plan", "--json", "dataset.dollhouse.images=8", "noise.huber_c=0.2"]) == 0
    assert "noise.huber_c is not used: noise.loss_type=l2" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["command", "window"])
def test_they_do_from_a_command_and_from_a_window_too(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"noise_offset": 0.05, "adaptive_noise_scale": 0.01, "ip_noise_gamma": 0.1, "loss_type": "smooth_l1"}
    given |= {"huber_c": 0.2, "huber_schedule": "exponential"}
    wanted = {"noise.offset": 0.05, "noise.adaptive_noise_scale": 0.01, "noise.input_perturbation": 0.1}
    wanted |= {"noise.loss_type": "smooth_l1", "noise.huber_c": 0.2, "noise.huber_schedule": "exponential"}
    dropped = {"rank_dropout": 0.1, "module_dropout": 0.2, "loraplus_lr_ratio": 16}
    wanted |= {"adapter.rank_dropout": 0.1, "adapter.module_dropout": 0.2, "optimizer.loraplus_lr_ratio": 16}
    if form == "command":
        words = " ".join(f"--{key}={value}" for key, value in given.items())
        arguments = " ".join(f"{key}={value}" for key, value in dropped.items())
        network = f"--network_module=networks.lora --network_args {arguments}"
        (tmp_path / "it").write_text(f"accelerate launch train_network.py {network} {words}\n", encoding="utf-8")
    else:
        window = {"LoRA_type": "Standard", "max_resolution": "512,512", "noise_offset_type": "Original"}
        (tmp_path / "it").write_text(json.dumps({**window, **given, **dropped, "multires_noise_iterations": 8}))
    assert main(["import", str(tmp_path / "it"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {key: found["recipe"].get(key) for key in wanted} == wanted
    assert "noise.multires_iterations" not in found["recipe"]
