"""LoRA files, and the training that they keep in their header, as sd-scripts and musubi-tuner write it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorasweep.cli import main

Answer = dict[str, Any]
TOLD = {  # every value is text there
    **{"ss_session_id": "3", "ss_training_started_at": "1700000000.5", "ss_output_name": "zkw", "ss_steps": "300"},
    **{"ss_learning_rate": "0.0001", "ss_text_encoder_lr": "5e-05", "ss_unet_lr": "0.0002", "ss_num_epochs": "9"},
    **{"ss_max_train_steps": "440", "ss_lr_warmup_steps": "0.05", "ss_lr_scheduler": "cosine", "ss_seed": "42"},
    **{"ss_network_module": "networks.lora", "ss_network_dim": "16", "ss_network_alpha": "8.0"},
    **{"ss_network_dropout": "None", "ss_mixed_precision": "bf16", "ss_full_fp16": "False", "ss_v2": "False"},
    **{"ss_base_model_version": "sdxl_base_v1-0", "ss_clip_skip": "None", "ss_max_token_length": "225"},
    **{"ss_cache_latents": "True", "ss_noise_offset": "0.0357", "ss_multires_noise_iterations": "6"},
    **{"ss_multires_noise_discount": "0.3", "ss_zero_terminal_snr": "False", "ss_max_grad_norm": "1.0"},
    "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1,betas=(0.9, 0.99))",
    **{"ss_caption_dropout_rate": "0.05", "ss_caption_tag_dropout_rate": "0.1", "ss_min_snr_gamma": "5.0"},
    **{"ss_scale_weight_norms": "None", "ss_debiased_estimation": "False", "ss_gradient_accumulation_steps": "2"},
    **{"ss_num_batches_per_epoch": "110", "ss_num_reg_images": "0", "ss_prior_loss_weight": "1.0"},
    "ss_network_args": '{"conv_dim": "8", "conv_alpha": "4"}',
    "ss_sd_model_name": "it.safetensors",
    "modelspec.prediction_type": "epsilon",
}
BY_FOLDERS = {
    **{"ss_batch_size_per_device": "4", "ss_resolution": "(1024, 1024)", "ss_flip_aug": "True"},
    **{"ss_shuffle_caption": "True", "ss_enable_bucket": "True", "ss_bucket_no_upscale": "False"},
    **{"ss_min_bucket_reso": "512", "ss_max_bucket_reso": "2048", "ss_keep_tokens": "1"},
    "ss_dataset_dirs": '{"10_zkw": {"n_repeats": 10, "img_count": 44}}',
    "ss_tag_frequency": '{"10_zkw": {"zkw": 44}}',
}
BY_FILE = {
    "ss_datasets": json.dumps(
        [
            {
                **{"batch_size_per_device": 4, "resolution": [1024, 1024], "enable_bucket": True},
                **{"min_bucket_reso": 512, "max_bucket_reso": 2048, "tag_frequency": {"10_zkw": {"zkw": 44}}},
                "subsets": [
                    {"is_reg": True, "shuffle_caption": False, "keep_tokens": 0, "image_dir": "reg"},
                    {
                        "is_reg": False,
                        "shuffle_caption": True,
                        "keep_tokens": 1,
                        "flip_aug": True,
                        "caption_prefix": None,
                    },
                ],
            },
            {"resolution": [768, 768], "subsets": []},
        ]
    ),
    "ss_num_reg_images": "20",
}
TE, UNET = "lora_te1_text_model_q.lora_up.weight", "lora_unet_mid_q.lora_up.weight"


@pytest.fixture
def answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Import a LoRA file that says this of itself; returns the recipe and what is said, as data."""

    def run(told: dict[str, str], *tensors: str) -> Answer:
        file = tmp_path / "zkw.safetensors"
        save_file({name: np.zeros(2, "float32") for name in tensors or (TE, UNET)}, file, metadata=told)
        assert main(["import", str(file), "--json"]) == 0
        found: Answer = json.loads(capsys.readouterr().out)
        return found

    return run


@pytest.mark.parametrize("images", [BY_FOLDERS, BY_FILE])
def test_a_lora_file_becomes_the_recipe_of_its_training(images: dict[str, str], answer: Callable[..., Answer]) -> None:
    found = answer(TOLD | images)
    wanted = {
        **{"base": "sdxl", "base.path": "it.safetensors", "base.resolution": 1024, "buckets": "kohya"},
        **{"buckets.min_side": 256, "buckets.max_side": 1024, "dataset.path": "???", "captions.extension": ".txt"},
        **{"captions.shuffle": True, "captions.keep_tokens": 1, "captions.dropout": 0.05, "captions.tag_dropout": 0.1},
        **{
            "adapter": "locon",
            "adapter.dim": 16,
            "adapter.alpha": 8.0,
            "adapter.conv_dim": 8,
            "adapter.conv_alpha": 4.0,
        },
        **{"adapter.text_encoder": True, "optimizer": "adamw8bit", "optimizer.weight_decay": 0.1},
        **{"optimizer.betas": [0.9, 0.99], "optimizer.lr": 2e-4, "optimizer.text_encoder_lr": 5e-5},
        **{"scheduler": "cosine", "scheduler.warmup": 0.05, "train.max_steps": 440, "train.batch_size": 4},
        **{"train.gradient_accumulation": 2, "train.precision": "bf16", "noise.offset": 0.0357},
        **{"noise.min_snr_gamma": 5.0, "noise.multires_iterations": 6, "noise.multires_discount": 0.3, "seed": 42},
    }
    assert {key: found["recipe"].get(key) for key in wanted} == wanted
    untranslated = {note["option"] for note in found["untranslated"]}
    assert {"flip_aug", "max_token_length", "train_data_dir"} <= untranslated
    assert any("lr_scheduler_num_cycles" in option for option in untranslated)  # which the file does not keep
    assert not any("known here" in note["reason"] for note in found["untranslated"])
    assert "ss_num_epochs" in {note["option"] for note in found["left_out"]}
    assert "zkw': 44" not in str(found)  # tags are counted, not options
    if images is BY_FILE:
        assert found["recipe"]["regularization.reg_images.path"] == "???" and "ss_datasets" in untranslated
    else:
        assert "ss_dataset_dirs" in untranslated and "regularization" not in found["recipe"]


def test_what_was_trained_is_told_by_the_weights(answer: Callable[..., Answer]) -> None:
    assert answer(TOLD, UNET)["recipe"]["adapter.text_encoder"] is False
    found = answer(TOLD, TE)
    assert "network_train_text_encoder_only" in {note["option"] for note in found["untranslated"]}


def test_weights_in_another_layout_are_of_what_they_were(answer: Callable[..., Answer]) -> None:
    found = answer(TOLD, "diffusion_model.middle.lora_A.weight")  # as converted for ComfyUI
    assert found["recipe"]["adapter.text_encoder"] is False
    assert "network_train_text_encoder_only" not in {note["option"] for note in found["untranslated"]}


def test_folders_that_were_treated_in_two_ways_are_told_with_their_repeats(answer: Callable[..., Answer]) -> None:
    subsets = [
        {"is_reg": True, "keep_tokens": 9},
        {"keep_tokens": 1, "num_repeats": 3},
        {"keep_tokens": 2, "num_repeats": 1},
    ]
    images = {"ss_datasets": json.dumps([{"resolution": [512, 512], "subsets": subsets}])}
    found = answer(TOLD | images | {"ss_dataset_dirs": '{"a": {"n_repeats": 3, "img_count": 7}}'})
    untranslated = {note["option"]: str(note["value"]) for note in found["untranslated"]}
    assert found["recipe"]["captions.keep_tokens"] == 1 and found["recipe"]["base.resolution"] == 512
    assert (
        untranslated["ss_datasets"] == "[{'keep_tokens': 2, 'num_repeats': 1}]"
        and '"n_repeats": 3' in untranslated["ss_dataset_dirs"]
    )


def test_the_batch_of_all_gpus_is_taken(answer: Callable[..., Answer]) -> None:
    told = TOLD | BY_FOLDERS | {"ss_total_batch_size": "32"}  # 4 of 4 on each, 2 accumulated
    assert answer(told)["recipe"]["train.batch_size"] == 16


def test_dropout_that_sd_scripts_writes_twice_is_taken_once(answer: Callable[..., Answer]) -> None:
    found = answer(TOLD | {"ss_network_dropout": "0.25", "ss_network_args": '{"conv_dim": "8", "dropout": 0.25}'})
    assert found["recipe"]["adapter.dropout"] == 0.25
    assert "network_args.dropout" not in {note["option"] for note in found["untranslated"]}


@pytest.mark.parametrize(("version", "is_guessed"), [("sd_v1", False), (None, True)])
def test_a_base_that_the_file_tells_is_not_called_a_guess(
    version: str | None, is_guessed: bool, answer: Callable[..., Answer]
) -> None:
    told = {key: text for key, text in TOLD.items() if key != "ss_base_model_version"}
    found = answer(told | ({"ss_base_model_version": version} if version else {}))
    assert found["recipe"]["base"] == "stable_diffusion"
    assert any("nothing says which base" in note["reason"] for note in found["differs"]) is is_guessed


@pytest.mark.parametrize("told", [{"modelspec.prediction_type": "v"}, {"ss_base_model_version": "sd_v2_v"}])
def test_what_the_base_predicts_is_told(told: dict[str, str], answer: Callable[..., Answer]) -> None:
    assert answer(TOLD | told)["recipe"]["base.prediction_type"] == "v_prediction"


@pytest.mark.parametrize("version", ["flux1", "chroma"])
def test_the_base_of_lycoris_is_told(version: str, answer: Callable[..., Answer]) -> None:
    module = {"ss_network_module": "lycoris.kohya", "ss_network_args": '{"algo": "lokr", "factor": "8"}'}
    found = answer(TOLD | module | {"ss_base_model_version": version}, UNET)["recipe"]
    assert (found["base"], found["adapter"]) == ({"flux1": "flux1_dev"}.get(version, version), "lokr")


def test_musubi_tuners_is_read_alike(answer: Callable[..., Answer]) -> None:
    module = {"ss_network_module": "networks.lora_qwen_image", "ss_timestep_sampling": "shift"}
    module |= {"ss_discrete_flow_shift": "2.2", "ss_num_train_items": "44", "ss_full_bf16": "False"}
    found = answer({key: text for key, text in TOLD.items() if "lr" in key or "optim" in key} | module, UNET)
    assert (found["recipe"]["base"], found["recipe"]["noise.shift"]) == ("qwen_image", 2.2)
    assert not any("known here" in note["reason"] for note in found["untranslated"])


def test_the_klein_of_a_lora_file_is_a_base_as_far_as_it_tells(answer: Callable[..., Answer]) -> None:
    told = TOLD | {"ss_network_module": "networks.lora_flux_2", "ss_base_model_version": "flux_2_klein_4b"}
    found = answer(told, UNET)
    assert found["recipe"]["base"] == "flux2_klein"
    assert any("klein-base" in note["reason"] for note in found["untranslated"])


@pytest.mark.parametrize(
    ("module", "version"),
    [
        *(("networks.lora", "hunyuan_video"), ("networks.loha", "qwen_image"), ("networks.lora_flux", "flux_kontext")),
        *(("networks.lora_qwen_image", "qwen_image_edit"), ("networks.lora_flux_2", "flux_2_dev")),
        ("musubi_tuner.networks.lora_qwen_image", "qwen_image_layered"),
    ],
)
def test_a_network_of_a_base_that_it_is_not_translated_for_is_refused(
    module: str, version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = TOLD | {"ss_network_module": module, "ss_base_model_version": version}
    save_file({UNET: np.zeros(2, "float32")}, tmp_path / "x.safetensors", metadata=told)
    assert main(["import", str(tmp_path / "x.safetensors")]) == 2
    assert f"is {module} of {version}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "what", "next_step"),
    [
        ({}, "does not say how it was trained", "adapter.init="),
        ({"ss_network_module": "networks.lora", "ss_network_dim": "4"}, "does not say how", "adapter.init="),
        (TOLD | {"ss_optimizer": "None"}, "does not say how", "adapter.init="),
        (TOLD | {"lorasweep.recipe": "{}"}, "its recipe cannot be read", "as lorasweep wrote it"),
        (TOLD | {"lorasweep.recipe": "[" * 9999}, "its recipe cannot be read", "as lorasweep wrote it"),
        ({"ot_config": "{"}, "OneTrainer that is not JSON", ""),
        ({"ot_config": f'{{"epochs": {"9" * 99}}}'}, "larger number", ""),
        ({"ot_config": "[1]"}, "does not say how it was trained", "adapter.init="),
        (
            TOLD | {"ss_network_module": "lycoris.kohya", "ss_base_model_version": "anima"},
            "lycoris.kohya of anima",
            "alone",
        ),
        (TOLD | {"ss_network_module": "networks.lora_sd3", "ss_base_model_version": "m"}, "lora_sd3", "flags.md"),
        (TOLD | {"ss_text_encoder_lr": "[[1]]"}, "text_encoder_lr  must be a number", ""),
        (TOLD | {"ss_network_dim": "Dynamic"}, "dim and alpha of its training are lost", "trainer's config"),
        (
            TOLD | {"ss_training_comment": "dimension is resized from 128 to 16; "},
            "dim and alpha of its training are lost",
            "trainer's config",
        ),
    ],
)
def test_a_file_that_says_nothing_of_use_is_refused(
    told: dict[str, str], what: str, next_step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({UNET: np.zeros(2, "float32")}, tmp_path / "x.safetensors", metadata=told)
    assert main(["import", str(tmp_path / "x.safetensors")]) == 2
    said = capsys.readouterr().err
    assert what in said and next_step in said


@pytest.mark.parametrize(
    ("content", "what"), [(b"PK\x03\x04", "pickle"), (b"\0" * 99, "header"), (None, "No such file")]
)
def test_what_is_no_lora_file_is_refused(
    content: bytes | None, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "x.safetensors").write_bytes(content)
    assert main(["import", str(tmp_path / "x.safetensors")]) == 2
    assert what in capsys.readouterr().err


def test_one_trainers_config_is_taken_out_of_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"training_method": "LORA", "model_type": "STABLE_DIFFUSION_XL_10_BASE", "lora_rank": 24, "epochs": 7}
    told = {"ot_branch": "master", "ot_config": json.dumps(config), "ss_base_model_version": "sdxl_"}
    save_file({UNET: np.zeros(2, "float32")}, tmp_path / "x.safetensors", metadata=told)
    assert main(["import", str(tmp_path / "x.safetensors"), "--json"]) == 0
    recipe = json.loads(capsys.readouterr().out)["recipe"]
    assert (recipe["base"], recipe["adapter.dim"], recipe["train.epochs"]) == ("sdxl", 24, 7)
