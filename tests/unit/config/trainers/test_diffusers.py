"""Import of the commands that start diffusers' example scripts, as people write them down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorasweep.cli import main

Answer = Callable[[str], dict[str, Any]]
SDXL = """\
#!/bin/bash
export MODEL_NAME="{base}"
export INSTANCE_DIR="dog"   # 5 photos

accelerate launch --mixed_precision="bf16" --num_processes 1 train_dreambooth_lora_sdxl.py \\
  --pretrained_model_name_or_path=$MODEL_NAME --instance_data_dir=$INSTANCE_DIR --repeats 5 \\
  --pretrained_vae_model_name_or_path=madebyollin/sdxl-vae-fp16-fix --output_dir=out-$UNSET \\
  --instance_prompt="a photo of sks dog" --validation_prompt="A photo of sks dog in a bucket" \\
  --with_prior_preservation --prior_loss_weight=0.5 --class_data_dir=dogs --class_prompt="a dog" \\
  --train_text_encoder --rank=16 --use_8bit_adam --snr_gamma=5.0 --learning_rate=1e-4 \\
  --lr_scheduler="constant_with_warmup" --lr_warmup_steps=0 --train_batch_size=1 \\
  --gradient_accumulation_steps=4 --max_train_steps=500 --seed="0" --gradient_checkpointing --push_to_hub
"""


@pytest.fixture
def answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Answer:
    def imported(script: str) -> dict[str, Any]:
        (tmp_path / "train.sh").write_text(script)
        assert main(["import", str(tmp_path / "train.sh"), "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return imported


def options(found: dict[str, Any], kind: str) -> set[str]:
    return {note["option"] for note in found[kind]}


def test_dreambooth_of_sdxl(answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "dogs").mkdir()
    found = answer(SDXL.format(base=tmp_path).replace("=dogs", f"={tmp_path}/dogs"))
    wanted = {
        **{"base": "sdxl", "base.path": str(tmp_path), "base.resolution": 1024, "train.precision": "bf16"},
        **{"dataset.path": "dog", "dataset.repeats": 5, "captions.trigger": "a photo of sks dog"},
        **{"dataset.prompts.any": ["A photo of sks dog in a bucket"], "buckets": "single"},
        **{"regularization": ["reg_images"], "regularization.reg_images.path": f"{tmp_path}/dogs"},
        **{"regularization.reg_images.prior_loss_weight": 0.5, "train.batch_size": 2},  # one of each
        **{"adapter": "lora", "adapter.targets": "attn", "adapter.dim": 16, "adapter.alpha": 16.0},
        **{"adapter.text_encoder": True, "optimizer": "adamw8bit", "optimizer.lr": 1e-4},
        **{"optimizer.text_encoder_lr": 5e-6, "optimizer.weight_decay": 1e-4, "noise.min_snr_gamma": 5.0},
        **{"scheduler": "constant", "scheduler.warmup": 0, "train.max_steps": 500, "seed": 0},
        **{"train.gradient_accumulation": 4, "train.max_grad_norm": 1.0},
    }
    assert {key: found["recipe"].get(key) for key in wanted} == wanted
    assert found["untranslated"] == []
    told = {"rank", "center_crop", "instance_prompt", "class_prompt", "train_batch_size", "train_*.py"}
    assert told <= options(found, "differs")


def test_text_to_image_takes_its_own_defaults(answer: Answer) -> None:
    """With the beginning of an option, as argparse takes it, in a notebook's cell."""
    found = answer(
        "!accelerate launch train_text_to_image_lora.py --train_data_dir=pics --num_train_epoch=3 --seed= \\\n"
        "  --random_flip --lr_scheduler=cosine --center_crop --dataset_name=someone/pictures --resolution=720\n"
    )
    wanted = {
        **{
            "base": "stable_diffusion",
            "base.resolution": 720,
            "base.bucket_step": 16,
            "dataset.path": "pics",
            "train.epochs": 3,
        },
        **{"train.max_steps": None, "train.batch_size": 16, "adapter.dim": 4, "adapter.alpha": 4.0},
        **{"optimizer.lr": 1e-4, "optimizer.weight_decay": 0.01, "scheduler": "cosine", "scheduler.warmup": 500},
        **{"adapter.text_encoder": False, "train.precision": "fp32"},
    }
    assert {key: found["recipe"].get(key) for key in wanted} == wanted
    assert "seed" not in found["recipe"] and found["to_give"] == ["base.path"]
    assert options(found, "untranslated") == {"pretrained_model_name_or_path", "random_flip", "dataset_name"}
    assert {"seed", "mixed_precision"} <= options(found, "differs") and "center_crop" not in options(found, "differs")


def test_a_dataset_may_be_named_that_is_a_folder_here(answer: Answer, tmp_path: Path) -> None:
    found = answer(f"accelerate launch train_dreambooth_lora_sdxl.py --rank=8 --dataset_name={tmp_path}\n")
    assert found["recipe"]["dataset.path"] == str(tmp_path)
    assert "dataset.path" not in found["to_give"] and "dataset_name" not in options(found, "untranslated")


@pytest.mark.parametrize(
    ("script", "base", "shift", "alpha"),
    [
        ("flux", "flux1_dev", 1.0, 4.0),  # its scheduler shifts by the size, which a grid of levels does not show
        ("flux2_klein", "flux2_klein", 1.0, 4.0),
        ("krea2", "krea2", 1.0, 32.0),
        ("qwen_image", "qwen_image", 3.0, 4.0),
        ("z_image", "z_image", 3.0, 4.0),
    ],
)
def test_flow_matching(script: str, base: str, shift: float, alpha: float, answer: Answer) -> None:
    found = answer(
        f"python train_dreambooth_lora_{script}.py --instance_data_dir dog --rank 8 --mixed_precision bf16 \\\n"
        "  --optimizer=prodigy --learning_rate=1. --weighting_scheme=logit_normal --logit_mean=0.5 --logit_std=2\n"
    )["recipe"]
    wanted = {
        **{"base": base, "noise.levels": "logit_normal", "noise.mean": -0.5, "noise.std": 2.0, "noise.shift": shift},
        **{"adapter.dim": 8, "adapter.alpha": alpha, "scheduler": "constant", "scheduler.warmup": 0},
        **{"optimizer": "prodigy", "optimizer.lr": 1.0, "optimizer.betas": [0.9, 0.999]},
        **{"optimizer.weight_decay": 1e-4, "optimizer.safeguard_warmup": True, "optimizer.use_bias_correction": True},
    }
    assert {key: found.get(key) for key in wanted} == wanted


def test_the_guidance_that_flux_is_told_is_told_of(answer: Answer) -> None:
    script = "accelerate launch train_dreambooth_lora_flux.py --instance_data_dir=dog --rank=4"
    assert "guidance_scale" in options(answer(script), "differs")
    assert "guidance_scale" in options(answer(f"{script} --guidance_scale=3.5"), "untranslated")
    assert "guidance_scale" in options(answer(f"{script} --guidance_scale=1"), "left_out")


@pytest.mark.parametrize(
    ("script", "part"),
    [
        ("accelerate launch train_dreambooth_lora_sana.py --rank=4", "train_*.py  is of 'train_dreambooth_lora_sana'"),
        ("accelerate launch train_dreambooth_lora.py --rank=four", "rank  must be a whole number, got 'four'"),
        ("accelerate launch train_dreambooth_lora.py --rank=$RANK", "has variables that it does not set"),
        ("accelerate launch train_dreambooth.py --instance_data_dir=dog", "the command line of another trainer"),
    ],
)
def test_what_cannot_be_is_refused(script: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.sh").write_text(f"{script}\n")
    assert main(["import", str(tmp_path / "train.sh")]) == 2
    assert part in capsys.readouterr().err


def test_a_prompt_with_a_colon_makes_no_yaml_of_a_command(answer: Answer) -> None:
    found = answer('accelerate launch train_dreambooth_lora.py --instance_prompt "style: sks" --rank=4\n')
    assert found["recipe"]["captions.trigger"] == "style: sks"


def test_a_dataset_that_is_not_read_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.sh").write_text("accelerate launch train_dreambooth_lora.py --rank=4\n")
    assert main(["import", str(tmp_path / "train.sh"), "--dataset", "gone.toml"]) == 2
    assert "--dataset  is not read" in capsys.readouterr().err
