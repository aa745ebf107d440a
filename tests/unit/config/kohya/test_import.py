"""Whole kohya files as people have them: what they become, what is listed, that the result is read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorasweep.cli import main
from lorasweep.config import load_recipe
from lorasweep.config.kohya.options import TABLE
from lorasweep.config.trainers import import_config

CHARACTER = """
[model]
v2 = false
pretrained_model_name_or_path = "/models/anylora.safetensors"
clip_skip = 2
[folders]
train_data_dir = "{images}"
reg_data_dir = "{images}"
prior_loss_weight = 0.5
output_dir = "/out"
[images]
resolution = "512,512"
enable_bucket = true
bucket_no_upscale = true
caption_extension = ".txt"
shuffle_caption = true
keep_tokens = 1
caption_tag_dropout_rate = 0.1
flip_aug = true
color_aug = false
cache_latents = true
[network]
network_module = "networks.lora"
network_dim = 32
network_alpha = 16
network_args = ["conv_dim=16", "conv_alpha=8", "rank_dropout=0.1", "module_dropout=0"]
scale_weight_norms = 1.0
[training]
optimizer_type = "AdamW8bit"
optimizer_args = ["weight_decay=0.1", "betas=0.9,0.99"]
unet_lr = 1e-4
text_encoder_lr = 5e-5
lr_scheduler = "cosine_with_restarts"
lr_scheduler_num_cycles = 3
lr_warmup_steps = 0.05
max_train_epochs = 8
max_train_steps = 99
train_batch_size = 6
mixed_precision = "fp16"
min_snr_gamma = 5
noise_offset = 0.03
multires_noise_iterations = 6
seed = 42
xformers = true
no_such_thing = 1
"""

WIDE = """
[general]
shuffle_caption = true
keep_tokens = 2
caption_extension = ".txt"
[[datasets]]
resolution = [768, 512]
batch_size = 3
enable_bucket = true
keep_tokens = 1
  [[datasets.subsets]]
  image_dir = "{images}/a"
  class_tokens = "zkw coat"
  num_repeats = 4
  [[datasets.subsets]]
  image_dir = "{images}/b"
  class_tokens = "zkw dress"
  num_repeats = 7
  keep_tokens = 3
  [[datasets.subsets]]
  image_dir = "{images}/girls"
  class_tokens = "1girl"
  is_reg = true
[[datasets]]
resolution = 1024
  [[datasets.subsets]]
  image_dir = "{images}/a"
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for number, (folder, count) in enumerate({"a": 3, "b": 2, "girls": 4}.items()):
        (root / folder).mkdir(parents=True)
        for index in range(count):
            name = root / folder / f"{index}.png"
            Image.effect_noise((96 + 8 * index, 64 + 8 * number), 80).save(name)
            name.with_suffix(".txt").write_text(f"{folder}, tag {index}")
    return root


def reasons(notes: Any) -> dict[str, str]:
    return {note.option: note.reason for note in notes}


def test_a_character_recipe(tmp_path: Path, images: Path) -> None:
    (tmp_path / "c.toml").write_text(CHARACTER.format(images=images))
    imported = import_config(tmp_path / "c.toml")
    assert {key: line.value for key, line in imported.lines.items()} == {
        "base": "stable_diffusion",
        "base.path": "/models/anylora.safetensors",
        "base.clip_skip": 2,
        "base.resolution": 512,
        "base.bucket_step": 64,
        "dataset": "folder",
        "dataset.path": str(images),
        "dataset.holdout": 0.0,
        "captions.extension": ".txt",
        "captions.separator": ", ",
        "captions.shuffle": True,
        "captions.keep_tokens": 1,
        "captions.dropout": 0.0,
        "captions.tag_dropout": 0.1,
        "buckets": "kohya",
        "buckets.min_side": 256,
        "buckets.max_side": 1024,
        "buckets.upscale": False,
        "adapter": "locon",
        "adapter.dim": 32,
        "adapter.alpha": 16.0,
        "adapter.conv_dim": 16,
        "adapter.conv_alpha": 8.0,
        "adapter.rank_dropout": 0.1,  # module_dropout is 0
        "adapter.text_encoder": True,
        "optimizer": "adamw8bit",
        "optimizer.lr": 1e-4,
        "optimizer.text_encoder_lr": 5e-5,
        "optimizer.betas": [0.9, 0.99],
        "optimizer.weight_decay": 0.1,
        "optimizer.eps": 1e-8,
        "scheduler": "cosine_with_restarts",
        "scheduler.num_cycles": 3,
        "scheduler.warmup": 0.05,
        "regularization": ["scale_norm", "reg_images"],
        "regularization.scale_norm.max_norm": 1.0,
        "regularization.reg_images.path": str(images),
        "regularization.reg_images.prior_loss_weight": 0.5,
        "regularization.reg_images.share": 1.0,
        "train.epochs": 8,
        "train.max_steps": None,
        "train.batch_size": 6,
        "train.gradient_accumulation": 1,
        "train.max_grad_norm": 1.0,
        "noise.min_snr_gamma": 5.0,
        "noise.offset": 0.03,
        "noise.multires_iterations": 6,
        "noise.multires_discount": 0.3,
        "noise.adaptive_noise_scale": 0.0,
        "noise.loss_type": "l2",
        "noise.debiased": False,
        "noise.low": 0.0,
        "noise.high": 1.0,
        "train.precision": "fp16",
        "seed": 42,
    }
    missing = reasons(imported.untranslated)
    assert missing.keys() == {
        "flip_aug",  # color_aug is off
        "no_such_thing",
    }
    assert "not an option" in missing["no_such_thing"]
    harmless = {"cache_latents", "xformers", "output_dir", "v2", "max_train_steps"}
    off = {"network_args.module_dropout", "color_aug"}
    assert harmless | off == set(reasons(imported.left_out))


def test_what_is_written_is_read_back_as_the_same_recipe(tmp_path: Path, images: Path) -> None:
    text = CHARACTER.format(images=images).replace("AdamW8bit", "AdamW")
    (tmp_path / "c.toml").write_text(text)
    imported = import_config(tmp_path / "c.toml")
    written = imported.text()
    (tmp_path / "r.yaml").write_text(written)
    recipe = load_recipe(str(tmp_path / "r.yaml"))
    assert (recipe.optimizer.name, recipe.optimizer.options["lr"]) == ("adamw", 1e-4)
    assert recipe.regularization["scale_norm"] == {"max_norm": 1.0}
    assert (recipe.train.epochs, recipe.train.max_steps, recipe.seed) == (8, None, 42)
    assert recipe.adapter.options["conv_alpha"] == 8.0 and recipe.captions.tag_dropout == 0.1
    for note in (*imported.untranslated, *imported.differs, *imported.left_out):
        assert f"#   {note.option}" in written
    assert all(len(line) < 300 for line in written.splitlines())


def test_several_folders_are_linked_into_one_and_planned_with_their_repeats(
    tmp_path: Path, images: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text('learning_rate = 1e-4\nmax_train_epochs = 2\nnetwork_module="networks.lora"')
    (tmp_path / "d.toml").write_text(WIDE.format(images=images))
    words = ["import", str(tmp_path / "c.toml"), "--dataset", str(tmp_path / "d.toml")]
    out, links = str(tmp_path / "r.yaml"), tmp_path / "links"
    assert main([*words, "--json"]) == 0
    unlinked = json.loads(capsys.readouterr().out)
    assert "--link" in next(row for row in unlinked["untranslated"] if row["option"] == "image_dir")["reason"]
    assert unlinked["to_give"] == ["base.path", "dataset.path"] and not links.exists()
    assert main([*words, "-o", out, "--link", str(links)]) == 0
    assert main([*words, "-o", out, "--link", str(links)]) == 0  # again: the same links
    told = capsys.readouterr().err
    assert "subsets.keep_tokens" in told and "datasets[2]" in told and "base.path=..." in told
    assert sorted(path.name for path in links.iterdir()) == ["4_zkw coat", "7_zkw dress"]
    small = ["base=dollhouse", "base.path=null", "base.resolution=64", "base.bucket_step=8"]
    assert main(["plan", out, *small, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["exposures"] == {"4_zkw coat": 3 * 4 * 2, "7_zkw dress": 2 * 7 * 2}
    recipe = load_recipe(out, ["base.path=anywhere"])
    assert recipe.captions.keep_tokens == 1 and recipe.train.batch_size == 3  # the dataset's, not [general]'s
    assert recipe.regularization["reg_images"]["path"] == str(images / "girls")
    (links / "4_zkw coat").unlink()
    (links / "4_zkw coat").mkdir()
    assert main([*words, "-o", out, "--link", str(links)]) == 2
    assert "in the way" in capsys.readouterr().err


def test_folders_of_equal_words_and_repeats_are_all_trained_on_with_just_these_words(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("rin (anime)", "rin (anime)", "Rin (anime)")  # the last is the same name to macOS and Windows
    subsets = ""
    for number, said in enumerate(words):
        folder = tmp_path / str(number)
        folder.mkdir()
        Image.effect_noise((64, 64), 40 + 30 * number).convert("RGB").save(folder / f"{number}.png")
        subsets += f'[[datasets.subsets]]\nimage_dir = "{folder}"\nnum_repeats = 2\nclass_tokens = "{said}"\n'
    (tmp_path / "c.toml").write_text(
        f'network_module = "networks.lora"\nmax_train_epochs = 1\nresolution = 64\n[[datasets]]\n{subsets}'
    )
    out, links = str(tmp_path / "r.yaml"), str(tmp_path / "links")
    for _ in range(2):  # again: the same links
        assert main(["import", str(tmp_path / "c.toml"), "-o", out, "--link", links]) == 0
    capsys.readouterr()
    assert main(["plan", out, "base=dollhouse", "base.path=null", "base.bucket_step=8", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["images"]
    assert {Path(each["file"]).name: each["caption"] for each in planned} == {
        f"{number}.png": said for number, said in enumerate(words)
    }
    assert {each["repeats"] for each in planned} == {2}


def test_folders_that_already_say_their_repeats_need_no_links(tmp_path: Path) -> None:
    for name in ("10_zkw coat", "5_zkw dress"):
        (tmp_path / "img" / name).mkdir(parents=True)
    subsets = "".join(
        f'[[datasets.subsets]]\nimage_dir = "{tmp_path}/img/{name}"\nnum_repeats = {name.split("_")[0]}\n'
        for name in ("10_zkw coat", "5_zkw dress")
    )
    text = f'pretrained_model_name_or_path = "/m"\n[[datasets]]\nresolution = 512\n{subsets}'
    (tmp_path / "both.toml").write_text(text)
    imported = import_config(tmp_path / "both.toml")
    assert imported.lines["dataset.path"].value == str(tmp_path / "img") and not imported.links
    assert "dataset.repeats" not in imported.lines
    (tmp_path / "img" / "3_other").mkdir()  # would be trained on too
    assert import_config(tmp_path / "both.toml").to_give == ("dataset.path",)


def test_kohyas_defaults_are_written_down_and_those_that_differ_are_told(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('network_module = "networks.lora"')
    data = import_config(tmp_path / "c.toml").document()
    assert data["recipe"]["train.max_steps"] == 1600 and data["recipe"]["adapter.alpha"] == 1.0
    assert data["recipe"]["adapter.dim"] == 4 and data["recipe"]["captions.extension"] == ".caption"
    differing = {row["key"]: (row["kohya"], row["lorasweep"]) for row in data["defaults"]}
    assert differing["adapter.alpha"] == (1.0, 16) and differing["adapter.text_encoder"] == (True, False)
    assert differing["train.max_steps"] == (1600, None) and differing["train.batch_size"] == (1, 4)
    assert "optimizer.eps" not in differing and "train.max_grad_norm" not in differing


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = [", "is not TOML"),
        ("learning_rate = 'fast'\nseed = 1.5\nenable_bucket = 'maybe'", "3 problems"),
        ("network_args = ['conv_dim']", "name=value"),
        ("seed = 1\n[[datasets]]\nsubsets = 3", "list of tables"),
        ("seed = 1\ngeneral = 3\ndatasets = []", "must be a table"),
        ("seed = 1\ndatasets = {a = 1}", "list of tables"),
        ("[general]\nresolution = 512\n[[datasets]]\n", "is a dataset file"),
        ("dataset_config = 'no/such.toml'", "no/such.toml"),
    ],
)
def test_what_makes_no_sense_ends_with_2(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text(text)
    assert main(["import", str(tmp_path / "c.toml"), "-o", str(tmp_path / "r.yaml")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "r.yaml").exists()
    assert main(["import", str(tmp_path / "nowhere.toml")]) == 2


def test_every_option_is_in_one_list_and_leads_to_a_key_of_a_recipe() -> None:
    lists = [set(TABLE.translated), set(TABLE.unsupported), set(TABLE.harmless)]
    assert sum(map(len, lists)) == len(set.union(*lists)) > 150
