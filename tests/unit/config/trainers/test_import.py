"""`lorasweep import` of OneTrainer, ai-toolkit, SimpleTuner and kohya_ss: what a recipe becomes, and what is told."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lorasweep.cli import main
from lorasweep.components.schedulers import cosine_with_soft_restarts
from lorasweep.config import compose_recipe

Run = Callable[..., dict[str, Any]]

ONE_TRAINER: dict[str, Any] = {
    "__version": 10,
    "training_method": "LORA",
    "model_type": "STABLE_DIFFUSION_XL_10_BASE",
    "base_model_name": "models/illustrious.safetensors",
    "resolution": "1024",
    "layer_filter_preset": "attn-mlp",
    "learning_rate_scheduler": "COSINE_WITH_RESTARTS",
    "learning_rate_cycles": 2.5,
    "loss_weight_fn": "MIN_SNR_GAMMA",
    "train_dtype": "BFLOAT_16",
    "ema": "CPU",
    "optimizer": {
        "optimizer": "PRODIGY",
        "beta2": 0.99,
        "beta1": 0.9,
        "d_coef": 0.5,
        "fused": False,
        "adam_debias": True,
    },
    "text_encoder": {"train": False},
    "concepts": [
        {"path": "/img/zkw", "balancing": 10, "text": {"enable_tag_shuffling": True, "keep_tags_count": 2}},
        {"path": "/img/kept", "type": "VALIDATION"},
        {"path": "/img/girls", "type": "PRIOR_PREDICTION", "loss_weight": 0.5},
        {"path": "/img/off", "enabled": False},
    ],
}
AI_TOOLKIT: dict[str, Any] = {
    "job": "extension",
    "config": {
        "name": "mine",
        "process": [
            {
                "type": "diffusion_trainer",
                "trigger_word": "zkw",
                "network": {"type": "lora", "linear": 32, "linear_alpha": 16, "conv": 16, "conv_alpha": 8},
                "datasets": [{"folder_path": "/img/zkw", "caption_ext": "txt", "resolution": [512, 768]}],
                "train": {
                    "steps": 3000,
                    "optimizer": "prodigy",
                    "lr": 1e-4,
                    "timestep_type": "weighted",
                    "diff_output_preservation": True,
                    "ema_config": {"use_ema": True, "ema_decay": 0.99},
                },
                "model": {"name_or_path": "/models/sd15", "arch": "sd15"},
                "sample": {"sample_every": 250},
            }
        ],
    },
}
SIMPLE_TUNER: dict[str, Any] = {
    "--model_family": "sdxl",
    "--model_type": "lora",
    "--pretrained_model_name_or_path": "/models/sdxl",
    "--data_backend_config": "config/backends.json",
    "--optimizer": "bnb-adamw8bit",
    "--optimizer_config": "weight_decay=0.1",
    "--learning_rate": 1e-4,
    "--lr_scheduler": "sine",
    "--lr_warmup_steps": 100,
    "--max_train_steps": 2000,
    "--use_ema": True,
}
BACKENDS = [
    {
        "id": "zkw",
        "type": "local",
        "instance_data_dir": "/img/zkw",
        "crop": True,
        "crop_aspect": "closest",
        "resolution": 1.05,
        "resolution_type": "area",
        "caption_strategy": "textfile",
        "repeats": 9,
    },
    {"id": "reg", "instance_data_dir": "/img/girls", "is_regularisation_data": True},
    {"id": "eval", "instance_data_dir": "/img/kept", "dataset_type": "eval"},
    {"id": "text", "dataset_type": "text_embeds", "default": True},
]
GUI: dict[str, Any] = {
    "LoRA_type": "LyCORIS/LoKr",
    "LyCORIS_preset": "attn-mlp",
    "pretrained_model_name_or_path": "/models/sd15.safetensors",
    "train_data_dir": "/img",
    "max_resolution": "512,512",
    "enable_bucket": True,
    "network_dim": 16,
    "network_alpha": 8,
    "conv_dim": 1,
    "factor": 4,
    "decompose_both": True,
    "optimizer": "AdamW8bit",
    "optimizer_args": '"weight_decay=0.1"',
    "learning_rate": 1e-4,
    "unet_lr": 2e-4,
    "text_encoder_lr": 0.0,
    "lr_scheduler": "cosine_with_restarts",
    "lr_scheduler_num_cycles": "",
    "lr_warmup": 10,
    "epoch": 6,
    "max_train_steps": 0,
    "max_train_epochs": "",
    "noise_offset": 0.05,
    "noise_offset_type": "Multires",
    "multires_noise_iterations": 6,
    "seed": "",
    "caption_extension": ".txt",
    "guidance_scale": 3.5,
    "new_switch": True,
}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Import a config, as JSON unless it is called .yaml; returns what is told as data."""

    def bring(content: Any, *words: str, name: str = "config.json") -> dict[str, Any]:
        file = tmp_path / name
        file.write_text(yaml.safe_dump(content) if name.endswith(".yaml") else json.dumps(content), encoding="utf-8")
        assert main(["import", str(file), *words, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return bring


def told(found: dict[str, Any], kind: str) -> dict[str, str]:
    return {note["option"]: note["reason"] for note in found[kind]}


def has(found: dict[str, Any], **wanted: Any) -> bool:
    recipe = {key.replace(".", "__"): value for key, value in found["recipe"].items()}
    return {key: recipe.get(key) for key in wanted} == wanted


def test_one_trainers_optimizer_as_it_was_once_written(run: Run) -> None:
    config = {"training_method": "LORA", "optimizer": "LION", "optimizer_weight_decay": 0.5, "optimizer_beta1": 0.8}
    found = run(config)
    assert has(found, optimizer="lion", optimizer__weight_decay=0.5)
    assert "or none" in told(found, "untranslated")["optimizer.beta1"]


def test_one_trainer(run: Run) -> None:
    found = run(ONE_TRAINER)
    assert has(found, base="sdxl", base__path="models/illustrious.safetensors", base__resolution=1024)
    assert has(found, dataset__path="/img/zkw", dataset__repeats=10, dataset__holdout_path="/img/kept")
    assert has(found, captions__shuffle=True, captions__keep_tokens=2, captions__extension=".txt")
    assert has(found, regularization=["reg_images", "prior_prediction", "ema"])
    assert found["recipe"]["regularization.reg_images.path"] == "/img/girls"
    assert found["recipe"]["regularization.reg_images.prior_loss_weight"] == 0.5
    assert has(found, adapter="lora", adapter__text_encoder=False, adapter__targets="attn-mlp")
    assert has(found, optimizer="prodigy", optimizer__betas=[0.9, 0.99], optimizer__d_coef=0.5)
    assert has(found, scheduler="cosine_with_soft_restarts", scheduler__num_cycles=2.5, scheduler__warmup=200)
    assert has(found, noise__min_snr_gamma=5.0, train__precision="bf16", train__max_steps=None, train__epochs=100)
    # Its own defaults, which differ from ours beside the same optimizer, are written down.
    defaults = {each["key"]: each["OneTrainer"] for each in found["defaults"]}
    own = compose_recipe(["optimizer=prodigy"]).optimizer.options
    ours = {
        key.removeprefix("optimizer."): each["lorasweep"]
        for each in found["defaults"]
        if "optimizer." in (key := each["key"])
    }
    assert ours and ours == {knob: own[knob] for knob in ours}
    assert (defaults["adapter.dim"], defaults["adapter.alpha"]) == (16, 1.0)
    average = {knob: found["recipe"][f"regularization.ema.{knob}"] for knob in ("decay", "warmup")}
    assert average == {"decay": 0.999, "warmup": True} and found["recipe"]["regularization.ema.every"] == 5
    assert "crops are centred" in told(found, "differs")["concepts.image.enable_crop_jitter"]
    assert ["/img/off"] == [note["value"] for note in found["left_out"] if note["option"] == "concepts.path"]


@pytest.mark.parametrize("name", ["job.yaml", "job.json", "anything.txt"])
def test_ai_toolkit_is_told_by_its_content(run: Run, name: str) -> None:
    found = run(AI_TOOLKIT, name=name)
    assert has(found, base="stable_diffusion", base__path="/models/sd15", base__resolution=768)
    assert has(found, adapter="locon", adapter__dim=32, adapter__conv_dim=16, adapter__conv_alpha=8.0)
    # Prodigy's lr below 0.1 is silently 1 there, and its eps is not PyTorch's.
    assert has(found, optimizer="prodigy", optimizer__lr=1.0, train__max_steps=3000, captions__trigger="zkw")
    assert has(found, regularization=["prior_prediction", "ema"], captions__extension=".txt")
    assert "takes 1" in told(found, "differs")["train.lr"] and "dataset.prompts.any" not in found["recipe"]
    left = told(found, "untranslated")
    assert "768 is taken" in left["datasets.resolution"]
    average = {knob: found["recipe"][f"regularization.ema.{knob}"] for knob in ("decay", "warmup")}
    assert average == {"decay": 0.99, "warmup": False}
    assert "train.timestep_type" in left and "sample.sample_every" in told(found, "left_out")


def test_an_average_is_taken_over_unless_it_is_off_or_the_optimizer_has_its_own(run: Run) -> None:
    assert "ema" not in run({**ONE_TRAINER, "ema": "OFF"})["recipe"]["regularization"]
    own = {**ONE_TRAINER, "optimizer": {"optimizer": "SCHEDULE_FREE_ADAMW"}}
    assert "by itself" in told(run(own), "untranslated")["ema"]
    tuner = run({**SIMPLE_TUNER, "--ema_warmup_steps": 50})
    assert tuner["recipe"]["regularization.ema.decay"] == 0.995
    assert "beside" in told(tuner, "differs")["use_ema"] and "ema_warmup_steps" in told(tuner, "untranslated")
    for is_on in (True, False):
        job = copy.deepcopy(AI_TOOLKIT)
        job["config"]["process"][0]["train"]["ema_config"] = {"use_ema": is_on, "use_feedback": True}
        found = run(job)
        assert "train.ema_config.use_feedback" in told(found, "untranslated" if is_on else "left_out")
        assert found["recipe"].get("regularization.ema.decay") == (0.999 if is_on else None)


def test_ai_toolkit_counts_batches_with_one_of_two_kinds_of_accumulation(run: Run) -> None:
    for option, steps, warmup in (("gradient_accumulation_steps", 750, 25), ("gradient_accumulation", 3000, 100)):
        job = copy.deepcopy(AI_TOOLKIT)
        schedule = {"lr_scheduler": "constant_with_warmup", "lr_scheduler_params": {"num_warmup_steps": 100}}
        job["config"]["process"][0]["train"] |= {option: 4, **schedule}
        found = run(job)
        assert has(found, train__gradient_accumulation=4, train__max_steps=steps, scheduler__warmup=warmup)
        assert (f"train.{option}" in told(found, "differs")) == (steps == 750)


@pytest.mark.parametrize(("value", "is_told"), [(1.0, False), (3.5, True)])
def test_guidance_that_a_transformer_is_told_in_training(value: float, is_told: bool, run: Run) -> None:
    transformer = {"transformer": {"guidance_scale": value}, "model_type": "FLUX_DEV_1"}
    tuner = {"--model_family": "flux", "--flux_guidance_value": value}
    for content, option in (
        ({**ONE_TRAINER, **transformer}, "transformer.guidance_scale"),
        ({**SIMPLE_TUNER, **tuner}, "flux_guidance_value"),
    ):
        assert (option in told(run(content), "untranslated")) == is_told


@pytest.mark.parametrize(("is_default", "is_told"), [(True, False), (False, True)])
def test_what_ai_toolkit_leaves_out_of_a_model_is_told(is_default: bool, is_told: bool, run: Run) -> None:
    job = copy.deepcopy(AI_TOOLKIT)
    process = job["config"]["process"][0]
    process["network"]["transformer_only"] = is_default
    process["model"]["use_text_encoder_2"] = is_default
    process["datasets"][0]["scale"] = 1.0 if is_default else 0.5
    options = {"network.transformer_only", "model.use_text_encoder_2", "datasets.scale"}
    assert (options <= told(run(job), "untranslated").keys()) == is_told


@pytest.mark.parametrize(
    ("mode", "share", "kind"), [(None, 0.0, "untranslated"), ("RANDOM", 0.1, None), ("RANDOM WEIGHTED", 0.1, "differs")]
)
def test_one_trainer_drops_all_tags_at_once_unless_it_is_told(
    mode: str | None, share: float, kind: str | None, run: Run
) -> None:
    text = {"tag_dropout_enable": True, "tag_dropout_probability": 0.1, **({"tag_dropout_mode": mode} if mode else {})}
    found = run({**ONE_TRAINER, "concepts": [{"path": "/img/zkw", "text": text}]})
    assert found["recipe"]["captions.tag_dropout"] == share
    option = "concepts.text.tag_dropout_mode"
    assert [each for each in ("untranslated", "differs") if option in told(found, each)] == ([kind] if kind else [])


def test_what_one_trainer_says_of_each_text_encoder_is_told(run: Run) -> None:
    second = {"train": False, "dropout_probability": 0.1}
    found = run({**ONE_TRAINER, "text_encoder_2": second, "text_encoder_layer_skip": 1, "text_encoder_2_layer_skip": 1})
    left = told(found, "untranslated")
    options = {"text_encoder_2.dropout_probability", "text_encoder_layer_skip", "text_encoder_2_layer_skip"}
    assert options <= left.keys() and "after 75 tokens" in told(found, "differs")["model_type"]
    zeros = {"text_encoder_2": {"dropout_probability": 0.0}, "text_encoder_layer_skip": 0}
    assert not options & told(run({**ONE_TRAINER, **zeros}), "untranslated").keys()


@pytest.mark.parametrize(("given", "wanted"), [({}, (0.0, 1.0)), ({"max_denoising_steps": 499}, (0.5, 1.0))])
def test_ai_toolkit_counts_levels_from_pure_noise(given: dict[str, int], wanted: tuple[float, float], run: Run) -> None:
    job = copy.deepcopy(AI_TOOLKIT)
    job["config"]["process"][0]["train"] |= given
    found = run(job)
    assert has(found, noise__low=wanted[0], noise__high=wanted[1])
    assert ("train.max_denoising_steps" in told(found, "differs")) == bool(given)


def test_one_trainer_counts_warm_up_in_batches_and_may_count_samples(run: Run, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.png").touch()
    for path, repeats in ((str(tmp_path), 25), ("/img/elsewhere", 1)):
        concept = {"path": path, "balancing": 100, "balancing_strategy": "SAMPLES"}
        config = {**ONE_TRAINER, "gradient_accumulation_steps": 8, "concepts": [concept]}
        found = run(config)
        assert has(found, scheduler__warmup=25, train__gradient_accumulation=8, dataset__repeats=repeats)
        kind = "differs" if repeats == 25 else "untranslated"
        assert "samples of an epoch" in told(found, kind)["concepts.balancing_strategy"]
    concept["balancing_strategy"] = "REPEATS"
    assert has(run({**config, "concepts": [concept]}), dataset__repeats=100)


def test_ai_toolkits_flags_of_old_name_the_base(run: Run) -> None:
    job = copy.deepcopy(AI_TOOLKIT)
    job["config"]["process"][0]["model"] = {"name_or_path": "/models/xl", "is_xl": True}
    assert has(run(job), base="sdxl")


def test_simple_tuner_with_its_dataloader(run: Run, tmp_path: Path) -> None:
    (tmp_path / "backends.json").write_text(json.dumps(BACKENDS), encoding="utf-8")
    for words in ([], ["--dataset", str(tmp_path / "backends.json")]):
        found = run(SIMPLE_TUNER, *words)
        assert has(found, base="sdxl", base__resolution=1024, buckets="kohya", dataset__path="/img/zkw")
        # 0 is once there.
        assert has(found, dataset__repeats=10, dataset__holdout_path="/img/kept")
        assert found["recipe"]["regularization.reg_images.path"] == "/img/girls"
        assert has(found, optimizer="adamw8bit", optimizer__weight_decay=0.1, scheduler="constant")
        assert has(found, train__max_steps=2000, adapter="lora", adapter__alpha=16.0, adapter__targets="attn")
        # Silent defaults of theirs that are not ours.
        defaults = {each["key"]: each["SimpleTuner"] for each in found["defaults"]}
        assert defaults["captions.dropout"] == 0.1 and defaults["adapter.dropout"] == 0.1
        assert found["recipe"]["train.batch_size"] == 4 and defaults["train.max_grad_norm"] == 2.0
        assert "stands in" in told(found, "untranslated")["lr_scheduler"]
        assert "every number is clipped" in told(found, "differs")["max_grad_norm"]


def test_a_seed_is_a_trainers_where_it_has_one(run: Run) -> None:
    """ai-toolkit's: get_conf of jobs/process/BaseTrainProcess.py; OneTrainer has none."""
    job = copy.deepcopy(AI_TOOLKIT)
    job["config"]["process"][0]["training_seed"] = 7
    for content in (job, {**SIMPLE_TUNER, "--seed": 7}):
        found = run(content)
        assert has(found, seed=7) and not [option for option in told(found, "differs") if "seed" in option]
    for content, option in ((AI_TOOLKIT, "training_seed"), (ONE_TRAINER, "seed")):
        found = run(content)
        assert has(found, seed=None) and "draws another" in told(found, "differs")[option]


def test_simple_tuners_lycoris(run: Run, tmp_path: Path) -> None:
    found = run({**SIMPLE_TUNER, "--lora_type": "lycoris", "--lycoris_config": "elsewhere.json"})
    assert "is not here" in told(found, "untranslated")["lycoris_config"]
    (tmp_path / "lycoris.json").write_text('{"algo": "lokr", "linear_dim": 16, "factor": 8}')
    lycoris = {"--lora_type": "lycoris", "--lycoris_config": "lycoris.json", "--lora_rank": 4}
    found = run({**SIMPLE_TUNER, **lycoris})
    assert has(found, adapter="lokr", adapter__dim=16, adapter__factor=8, adapter__dropout=None)
    assert "lora_rank" in told(found, "left_out")


def test_kohya_ss(run: Run) -> None:
    found = run(GUI)
    assert has(found, base="stable_diffusion", adapter="lokr", adapter__factor=4, adapter__decompose_both=True)
    assert has(found, adapter__targets="attn-mlp", adapter__text_encoder=False, optimizer__lr=2e-4)
    assert has(found, optimizer__weight_decay=0.1, base__resolution=512, buckets="kohya")
    # Its window turns empty cycles into epochs, and percents into steps.
    assert has(found, scheduler="cosine_with_restarts", scheduler__num_cycles=6, scheduler__warmup=0.1)
    assert has(found, train__epochs=6, train__max_steps=None, noise__offset=0.0, noise__multires_iterations=6)
    left = told(found, "untranslated")
    assert "known here" in left["new_switch"]
    assert "seed" in told(found, "differs") and "guidance_scale" not in left


def test_a_window_that_trains_the_text_encoder_alone_is_told(run: Run) -> None:
    found = run({**GUI, "unet_lr": 0.0, "text_encoder_lr": 5e-5})
    assert "always trained" in told(found, "untranslated")["unet_lr"]


def test_problems_and_origins_have_the_names_of_the_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gui.json"
    file.write_text(json.dumps(GUI))
    assert main(["import", str(file)]) == 0
    written = capsys.readouterr().out
    assert "  # LoRA_type\n" in written and "  # max_resolution\n" in written and "  # epoch\n" in written
    file.write_text(json.dumps({**GUI, "max_resolution": "wide"}))
    assert main(["import", str(file)]) == 2
    assert "max_resolution" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({**ONE_TRAINER, "model_type": "PIXART_SIGMA"}, "PIXART_SIGMA"),
        ({**ONE_TRAINER, "training_method": "EMBEDDING"}, "must be LORA"),
        ({**ONE_TRAINER, "lora_rank": "wide", "epochs": -1, "learning_rate": float("nan")}, "3 problems"),
        ({**SIMPLE_TUNER, "--model_family": "hidream"}, "hidream"),
        ({**SIMPLE_TUNER, "--model_type": "full"}, "must be lora"),
        ({"job": "extension", "config": {"process": [{"type": "slider"}]}}, "slider"),
        ({"job": "extension", "config": []}, "sd_trainer"),
        ({**GUI, "flux1_checkbox": True, "LoRA_type": "Standard"}, "FLUX.1 with Standard"),
        ({**GUI, "anima_checkbox": True, "LoRA_type": "Kohya LoHa"}, "Anima with Kohya LoHa"),
        ({"max_resolution": "512,512", "learning_rate_te": 1e-5}, "no LoRA_type"),
        (BACKENDS, "--dataset"),
    ],
)
def test_what_cannot_be_imported_is_refused_by_name(
    content: Any, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(content))
    assert main(["import", str(file)]) == 2
    assert what in " ".join(capsys.readouterr().err.split())


def test_a_yaml_of_anchors_is_not_unfolded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bomb.yaml"
    rows = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 30)]
    file.write_text("\n".join(["job: x", "config: {}", "l0: &l0 [1]", *rows]))
    assert main(["import", str(file)]) == 2
    assert "YAML" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(AI_TOOLKIT).replace('"steps": 3000', '"steps": 3000, "steps": 300'),
        yaml.safe_dump(AI_TOOLKIT).replace("      steps: 3000", "      steps: 3000\n      steps: 300"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert text.count("steps") > 1
    (tmp_path / "config").write_text(text)
    assert main(["import", str(tmp_path / "config")]) == 2
    assert "the key `steps` is given twice in one place" in capsys.readouterr().err


def test_the_older_name_of_the_command_still_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text("network_dim = 8\n")
    assert main(["import-kohya", str(file)]) == 0
    assert "lorasweep import c.toml" in capsys.readouterr().out


@pytest.mark.parametrize("is_here", [True, False])
def test_flow_matching_options_are_translated(
    is_here: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = tmp_path / "training_adapter.safetensors"
    if is_here:
        adapter.touch()
    job = copy.deepcopy(AI_TOOLKIT)
    process = job["config"]["process"][0]
    process["model"] = {"name_or_path": "models/Turbo", "arch": "zimage", "assistant_lora_path": str(adapter)}
    process["train"]["timestep_type"] = "shift"
    tuner = {**SIMPLE_TUNER, "--model_family": "z_image", "--assistant_lora_path": str(adapter)}
    found = []
    trainers = (job, tuner, {**ONE_TRAINER, "model_type": "KREA_2", "dynamic_timestep_shifting": True})
    for number, content in enumerate(trainers):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(content))
        main(["import", str(file), "--json"])
        found.append(capsys.readouterr().out)
    print(found)
    assert all("noise.shift" in found[place] and "dynamic" in found[place] for place in (0, 2))
    assert all("base.adapter" in found[place] for place in (0, 1)) and "krea2" in found[2]
    assert all(("give base.adapter" in found[place]) != is_here for place in (0, 1))


def test_what_one_trainer_computes_otherwise_is_told(run: Run) -> None:
    """Debiased is another weight on v, and a range of levels is shifted as a whole there."""
    names = {"loss_weight_fn", "timestep_shift", "dropout_probability"}
    plain = run({**ONE_TRAINER, "timestep_shift": 2.0})
    assert not names & told(plain, "differs").keys()
    decomposed = run({**ONE_TRAINER, "lora_decompose": True, "dropout_probability": 0.1})
    assert not names & told(decomposed, "differs").keys()
    changes = {"loss_weight_fn": "DEBIASED_ESTIMATION", "timestep_shift": 2.0, "max_noising_strength": 0.8}
    changes["dropout_probability"] = 0.1
    found = run({**ONE_TRAINER, **changes})
    reasons = told(found, "differs")
    assert "theirs is the root" in reasons["loss_weight_fn"] and "shifted first here" in reasons["timestep_shift"]
    assert "ours what goes into it" in reasons["dropout_probability"]


def test_a_transformers_part_of_one_trainer_is_what_counts(run: Run) -> None:
    parts = {
        "unet": {"learning_rate": 9e-4, "weight_dtype": "FLOAT_8"},
        "transformer": {"learning_rate": 5e-4, "weight_dtype": "NFLOAT_4", "train": True},
    }
    config = {**ONE_TRAINER, "optimizer": {"optimizer": "ADAMW"}, "loss_weight_fn": "CONSTANT", **parts}
    found = run({**config, "model_type": "FLUX_DEV_1", "layer_filter_preset": "blocks"})
    assert has(found, base="flux1_dev", optimizer__lr=5e-4, memory__storage="nf4", adapter__targets="full")
    assert has(run(config), base="sdxl", optimizer__lr=9e-4, memory__storage="fp8")
    found = run({**config, "unet": {"weight_dtype": "INT_W8A8"}})
    assert has(found, memory__storage="int8") and "8 bits" in told(found, "differs")["unet.weight_dtype"]


@pytest.mark.parametrize(
    ("arch", "base", "targets"),
    [
        ("sdxl", "sdxl", "attn-mlp"),
        ("flux", "flux1_dev", "full"),
        ("zimage", "z_image", "full"),
        ("flux2_klein_4b", "flux2_klein", "attn-mlp"),
        ("ernie_image", "ernie_image", "full"),
        ("ideogram4", "ideogram4", "full"),
    ],
)
def test_ai_toolkit_takes_whole_blocks_of_transformers(run: Run, arch: str, base: str, targets: str) -> None:
    job = copy.deepcopy(AI_TOOLKIT)
    process = job["config"]["process"][0]
    process["network"], process["model"] = {"type": "lora", "linear": 16}, {"name_or_path": "/models/it", "arch": arch}
    assert has(run(job), base=base, adapter="lora", adapter__targets=targets)


def test_simple_tuners_noise_levels_and_lycoris_modules(run: Run, tmp_path: Path) -> None:
    flow = {**SIMPLE_TUNER, "--model_family": "flux"}
    assert has(run(flow), noise__levels="logit_normal", noise__std=1.0, noise__shift=3.0)
    assert has(run({**flow, "--flow_schedule_shift": 0}), noise__shift=1.0)
    found = run({**flow, "--flow_use_uniform_schedule": True, "--flow_schedule_auto_shift": True})
    assert has(found, noise__levels="uniform", noise__shift="dynamic")
    assert "noise.levels" not in run(SIMPLE_TUNER)["recipe"]
    lycoris = {**SIMPLE_TUNER, "--lora_type": "lycoris", "--lycoris_config": "lycoris.json"}
    for modules, targets in ((None, "full"), (["Attention"], "attn"), (["Attention", "FeedForward"], "attn-mlp")):
        preset = {"apply_preset": {"target_module": modules}} if modules else {}
        (tmp_path / "lycoris.json").write_text(json.dumps({"algo": "lokr", "linear_dim": 16, **preset}))
        assert has(run(lycoris), adapter="lokr", adapter__targets=targets)


@pytest.mark.parametrize("name", ["anima", "z_image"])
def test_a_text_encoder_on_which_no_adapter_sits_is_left_out(
    name: str, run: Run, tiny_flow: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`plan` refuses what is trained there: sd-scripts' default of Anima, OneTrainer's where it is told."""
    if name == "anima":
        config = {key: value for key, value in FLOW_TOML.items() if key != "network_train_unet_only"}
        config |= {"network_module": "networks.lora_anima", "text_encoder_lr": 1e-5}
    else:
        config = {**ONE_TRAINER, "model_type": "Z_IMAGE", "text_encoder": {"train": True, "learning_rate": 1e-5}}
    if name == "anima":
        file = tmp_path / "it.toml"
        file.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in config.items()))
        assert main(["import", str(file), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
    else:
        found = run(config)
    assert has(found, base=name, adapter__text_encoder=False)
    assert "optimizer.text_encoder_lr" not in found["recipe"]
    assert any("no adapter sits" in note["reason"] for note in found["untranslated"])
    words = [f"{key}={json.dumps(value)}" for key, value in found["recipe"].items() if key.startswith("adapter")]
    words += [f"base={name}", f"base.path={tiny_flow(name)}", "base.resolution=32", "base.bucket_step=8"]
    assert main(["plan", *words, "dataset.dollhouse.images=4"]) == 0


FLOW_TOML = {
    "pretrained_model_name_or_path": "/m/it.safetensors",
    "train_data_dir": "/img",
    "resolution": "1024",
    "learning_rate": 1e-4,
    "network_train_unet_only": True,
}


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, {"noise.levels": "uniform", "noise.shift": 3.0, "adapter.targets": "full"}),
        (
            {"timestep_sampling": "shift", "discrete_flow_shift": 3.1582, "sigmoid_scale": 1.3},
            {"noise.levels": "logit_normal", "noise.std": 1.3, "noise.shift": 3.1582},
        ),
        ({"timestep_sampling": "flux_shift"}, {"noise.levels": "logit_normal", "noise.shift": "dynamic"}),
        ({"network_args": ["split_qkv=True"]}, {"adapter": "lora"}),
        (
            {"loss_type": "huber", "huber_c": 0.2, "ip_noise_gamma": 0.1, "network_args": ["loraplus_lr_ratio=16"]},
            {
                "noise.loss_type": "huber",
                "noise.huber_c": 0.2,
                "noise.huber_schedule": "constant",
                "noise.input_perturbation": 0.1,
                "optimizer.loraplus_lr_ratio": 16.0,
            },
        ),
        ({"model_type": "chroma"}, {"base": "chroma", "noise.shift": 3.0, "adapter.targets": "full"}),
        (
            {"network_module": "networks.lora_anima", "timestep_sampling": "sigmoid", "qwen3": "/m/qwen"},
            {"base": "anima", "noise.levels": "logit_normal", "adapter.targets": "attn-mlp"},
        ),
        (
            {"network_module": "networks.lora_lumina", "gemma2": "/m/gemma", "system_prompt": "You draw."},
            {"base": "lumina2", "noise.levels": "logit_normal", "noise.shift": 6.0, "adapter.targets": "full"},
        ),
        (
            {"network_module": "networks.lora_lumina", "timestep_sampling": "nextdit_shift"},
            {"base": "lumina2", "noise.levels": "uniform", "noise.shift": "dynamic"},
        ),
    ],
)
def test_kohyas_networks_for_flow_matching(
    options: dict[str, Any], wanted: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"network_module": "networks.lora_flux", "ae": "/m/ae", "t5xxl": "/m/t5", **FLOW_TOML, **options}
    (tmp_path / "c.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items()))
    assert main(["import", str(tmp_path / "c.toml"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = {"base": "flux1_dev", "base.weights": "/m/it.safetensors", "base.path": "???", **wanted}
    assert {key: found["recipe"].get(key) for key in wanted} == wanted
    shared = "network_module" in told(found, "differs")
    assert shared == (wanted["base"] != "anima" and "split_qkv=True" not in options.get("network_args", []))
    if wanted["base"] == "flux1_dev" and shared:  # what sd-scripts takes in silence is told
        assert {"model_prediction_type", "guidance_scale", "network_module"} <= told(found, "differs").keys()


def test_the_window_of_lumina(run: Run) -> None:
    lumina = {"LoRA_type": "Lumina", "lumina_checkbox": True, "lumina_timestep_sampling": "sigmoid"}
    found = run({**GUI, **lumina, "lumina_sigmoid_scale": 1.2, "noise_offset_type": "Original", "noise_offset": 0})
    assert has(found, base="lumina2", adapter="lora", adapter__targets="full", noise__std=1.2)


def test_the_window_of_flux(run: Run) -> None:
    flux = {"LoRA_type": "Flux1", "flux1_checkbox": True, "timestep_sampling": "shift", "discrete_flow_shift": 3.1582}
    found = run({**GUI, **flux, "model_prediction_type": "raw", "noise_offset_type": "Original", "noise_offset": 0})
    assert has(found, base="flux1_dev", adapter="lora", adapter__targets="full", noise__shift=3.1582)
    left = told(found, "untranslated")
    assert "told 1" in left["guidance_scale"] and "model_prediction_type" not in left


def test_the_window_of_flux_has_chroma_and_lycoris_too(run: Run) -> None:
    flux = {**GUI, "flux1_checkbox": True, "model_type": "chroma", "t5xxl": "/m/t5.safetensors", "rank_dropout": 0.1}
    found = run({**flux, "LoRA_type": "Flux1", "t5xxl_max_token_length": 256})
    assert has(found, base="chroma", adapter="lora", adapter__rank_dropout=0.1)
    assert "t5xxl_max_token_length" in told(found, "untranslated")
    assert has(run({**flux, "LoRA_type": "LyCORIS/LoKr"}), base="chroma", adapter="lokr")
    no_file = {"LoRA_type": "LyCORIS/LoKr", "model_type": "flux", "t5xxl": ""}
    assert has(run({**flux, **no_file}), base="flux1_dev", adapter="lokr")


def test_the_window_of_anima(run: Run) -> None:
    anima = {"LoRA_type": "Anima", "anima_checkbox": True, "anima_vae": "/m/vae", "anima_qwen3": "/m/qwen3"}
    anima |= {"anima_timestep_sampling": "shift", "anima_discrete_flow_shift": 2.5, "anima_sigmoid_scale": 1.5}
    of_flux = {"timestep_sampling": "sigma", "discrete_flow_shift": 3, "guidance_scale": 3.5, "t5xxl": "/m/t5"}
    found = run({**GUI, **of_flux, **anima, "anima_t5_max_token_length": 512, "anima_split_attn": True})
    assert has(found, base="anima", adapter="lora", noise__levels="logit_normal", noise__shift=2.5, noise__std=1.5)
    assert not {"guidance_scale", "anima_t5_max_token_length", "anima_vae"} & told(found, "untranslated").keys()


EARLIER = {  # a file of OneTrainer as it was before 2024, which it renames when it opens one
    "training_method": "LORA",
    "model_type": "STABLE_DIFFUSION_15",
    "base_model_name": "/models/sd15",
    "train_text_encoder": False,
    "unet_learning_rate": 2e-4,
    "min_snr_gamma": 3.0,
    "weight_dtype": "FLOAT_8",
    "unet_weight_dtype": "NONE",
    "lora_layers": "attentions",
    "lora_layer_preset": "attn-mlp",
    "concepts": [{"path": "/img/zkw", "repeats": 7}, {"path": "/img/kept", "validation_concept": True}],
}


def test_one_trainers_earlier_files_are_read_as_it_reads_them(run: Run) -> None:
    found = run(EARLIER)
    assert has(found, adapter__text_encoder=False, adapter__targets="attn-mlp", optimizer__lr=2e-4)
    assert has(found, noise__min_snr_gamma=3.0, memory__storage="fp8")
    assert has(found, dataset__path="/img/zkw", dataset__repeats=7, dataset__holdout_path="/img/kept")
    assert not told(found, "untranslated").keys() & EARLIER.keys()
    assert "loss_weight_fn" not in run({**EARLIER, "min_snr_gamma": 0.0})["recipe"]
    prior = {"prior": {"learning_rate": 5e-4, "weight_dtype": "NFLOAT_4", "train": True}}
    found = run({**EARLIER, "model_type": "FLUX_DEV_1", **prior})  # before there was a `transformer`
    assert has(found, base="flux1_dev", optimizer__lr=5e-4, memory__storage="nf4")


@pytest.mark.parametrize(
    ("part", "is_told"),
    [
        ({"train": True, "stop_training_after": 10000, "stop_training_after_unit": "NEVER"}, False),
        ({"train": False, "stop_training_after": 5, "stop_training_after_unit": "EPOCH"}, False),
        ({"train": True, "stop_training_after": 30, "stop_training_after_unit": "EPOCH"}, False),
        ({"train": True, "stop_training_after": 5, "stop_training_after_unit": "EPOCH"}, True),
        ({"train": True, "stop_training_after": 5, "stop_training_after_unit": "STEP"}, True),
    ],
)
def test_an_end_of_training_that_is_reached_is_told(part: dict[str, Any], is_told: bool, run: Run) -> None:
    found = run({**ONE_TRAINER, "epochs": 20, "text_encoder": part, "text_encoder_2": {"train": part["train"]}})
    option = "text_encoder.stop_training_after"
    assert (option in told(found, "untranslated")) == is_told and option not in told(found, "differs")


def test_what_one_trainers_optimizer_takes_where_nothing_is_said(run: Run) -> None:
    def of(**given: Any) -> dict[str, Any]:
        return run({**ONE_TRAINER, "layer_filter": "attentions", "optimizer": given})

    assert has(of(optimizer="LION_8BIT"), optimizer__betas=[0.9, 0.999])
    found = of(optimizer="CAME", use_cautious=True, eps2=1e-16)
    assert has(found, optimizer__weight_decay=0.0)
    left = told(found, "untranslated")
    assert "optimizer.use_cautious" in left and "optimizer.eps2" not in left and "layer_filter" not in left
    assert "decouple" in told(of(optimizer="PRODIGY", decouple=False), "untranslated")["optimizer.decouple"]
    assert "optimizer.decouple" not in told(of(optimizer="PRODIGY", decouple=True), "untranslated")


def ai_toolkit_job(**sections: dict[str, Any]) -> dict[str, Any]:
    job = copy.deepcopy(AI_TOOLKIT)
    process = job["config"]["process"][0]
    datasets = sections.pop("datasets", {})
    for name, given in sections.items():
        process[name] = {**process[name], **given}
    process["datasets"] = [{**process["datasets"][0], **datasets}]
    return job


FULL_LOKR = {"adapter": "lokr", "adapter.dim": 100_000, "adapter.alpha": 100_000.0}


def test_a_lokr_of_whole_matrices_is_one(run: Run, tmp_path: Path) -> None:
    """ai-toolkit's unless it is told otherwise; LyCORIS and OneTrainer have a switch."""
    (tmp_path / "lycoris.json").write_text('{"algo": "lokr", "linear_dim": 16, "full_matrix": true, "factor": 8}')
    for content in (
        ai_toolkit_job(network={"type": "lokr", "linear": 16, "lokr_factor": 8}),
        {**SIMPLE_TUNER, "--lora_type": "lycoris", "--lycoris_config": "lycoris.json"},
        {**ONE_TRAINER, "peft_type": "LOKR", "lokr_full_matrix": True, "lokr_decompose_factor": 8},
    ):
        found = run(content)
        assert {key: found["recipe"][key] for key in FULL_LOKR} == FULL_LOKR and has(found, adapter__factor=8)
        assert not [option for option in told(found, "untranslated") if "full" in option]
    low = ai_toolkit_job(network={"type": "lokr", "linear": 16, "linear_alpha": 8, "lokr_full_rank": False})
    assert has(run(low), adapter__dim=16, adapter__alpha=8.0)
    for kind, rank in (("LOKR", "lokr_dim"), ("LORA", "lora_rank")):  # what is of the other kind is not looked at
        one_trainer = {**ONE_TRAINER, "peft_type": kind, rank: 12, "lokr_full_matrix": kind == "LORA"}
        assert has(run(one_trainer), adapter=kind.lower(), adapter__dim=12)


@pytest.mark.parametrize(
    ("datasets", "train", "wanted"),
    [
        ({"shuffle_tokens": True, "keep_tokens": 2}, {}, (True, 0, 0.0)),
        ({"shuffle_tokens": True, "keep_tokens": 2, "token_dropout_rate": 0.1}, {}, (True, 2, 0.1)),
        ({"keep_tokens": 2, "token_dropout_rate": 0.1}, {}, (False, 2, 0.1)),
        ({"shuffle_tokens": True, "token_dropout_rate": 0.1}, {"cache_text_embeddings": True}, (False, 0, 0.0)),
        ({"shuffle_tokens": True, "cache_text_embeddings": True}, {}, (False, 0, 0.0)),
    ],
)
def test_which_tags_move_in_ai_toolkit(
    datasets: dict[str, Any], train: dict[str, Any], wanted: tuple[bool, int, float], run: Run
) -> None:
    found = run(ai_toolkit_job(datasets={**datasets, "caption_dropout_rate": 0.05}, train=train))
    keys = ("captions.shuffle", "captions.keep_tokens", "captions.tag_dropout")
    assert tuple(found["recipe"][key] for key in keys) == wanted
    differs = told(found, "differs")
    given = (
        datasets.get("shuffle_tokens", False),
        datasets.get("keep_tokens", 0),
        datasets.get("token_dropout_rate", 0),
    )
    is_told = bool({"datasets.shuffle_tokens", "datasets.keep_tokens"} & differs.keys())
    assert is_told == (given != wanted or (given[0] and bool(given[1])))
    assert "trigger stays" in differs["datasets.caption_dropout_rate"]


def test_a_dataset_of_ai_toolkit_has_a_trigger_of_its_own(run: Run) -> None:
    found = run(ai_toolkit_job(datasets={"trigger_word": "zkw2"}))
    assert has(found, captions__trigger="zkw2") and "trigger_word" in told(found, "left_out")


@pytest.mark.parametrize(
    ("arch", "qtype", "storage"),
    [("flux", None, "fp8"), ("zimage", "int8", "int8"), ("qwen_image", "uint4", None), ("sdxl", "qfloat8", None)],
)
def test_how_ai_toolkit_holds_a_frozen_transformer(arch: str, qtype: str | None, storage: str | None, run: Run) -> None:
    model = {"arch": arch, "quantize": True, "bypass_guidance_embedding": True, **({"qtype": qtype} if qtype else {})}
    found = run(ai_toolkit_job(model=model, train={"bypass_guidance_embedding": True}))
    assert has(found, memory__storage=storage)
    left = told(found, "untranslated")
    assert ("model.qtype" in left) == (qtype == "uint4")
    assert ("train.bypass_guidance_embedding" in left) == (arch == "flux")
    for off in ({}, {"quantize": False}):
        model = {"arch": arch, **off, **({"qtype": qtype} if qtype else {})}
        assert has(run(ai_toolkit_job(model=model)), memory__storage=None)


@pytest.mark.parametrize(
    ("name", "ours", "decay"),
    [("adamw", "adamw", 0.01), ("adam", "adamw", 0.0), ("adam8bit", "adamw8bit", 0.0), ("adamw8", "adamw8bit", 0.0)],
)
def test_ai_toolkits_adams_decay_only_where_they_say_so(name: str, ours: str, decay: float, run: Run) -> None:
    found = run(ai_toolkit_job(train={"optimizer": name}))
    assert has(found, optimizer=ours, optimizer__weight_decay=decay)


def test_simple_tuners_optimizers(run: Run) -> None:
    def of(name: str, **given: Any) -> dict[str, Any]:
        return run({**SIMPLE_TUNER, "--optimizer": name, "--optimizer_config": "", **given})

    assert has(of("bnb-adamw8bit"), optimizer="adamw8bit", optimizer__eps=1e-6)
    assert has(of("adamw_schedulefree+no_kahan"), optimizer="schedule_free_adamw", optimizer__weight_decay=1e-3)
    assert has(of("torch-adamw", optimizer_beta1=0.9, optimizer_beta2=0.95), optimizer__betas=[0.9, 0.95])
    found = of("torch-adamw", optimizer_beta2=0.95)
    assert has(found, optimizer__betas=[0.9, 0.999]) and "or none" in told(found, "untranslated")["optimizer_beta2"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"lr_scheduler": "constant"}, ("constant", 0, None)),
        ({"lr_scheduler": "constant_with_warmup"}, ("constant", 100, None)),
        ({"lr_scheduler": "cosine"}, ("cosine_with_soft_restarts", 0, 10.0)),
        ({"lr_scheduler": "cosine", "lr_warmup_steps": 0}, ("cosine_with_soft_restarts", 0, 1.0)),
        ({"lr_scheduler": "cosine", "max_train_steps": 0}, ("cosine_with_soft_restarts", 0, 0.5)),
        ({"lr_scheduler": "cosine_with_restarts"}, ("constant", 0, None)),
        ({"lr_scheduler": "sine"}, ("constant", 0, None)),
    ],
)
def test_simple_tuners_warm_up_is_the_length_of_its_waves(
    given: dict[str, Any], wanted: tuple[str, int, float | None], run: Run
) -> None:
    content = {**SIMPLE_TUNER, **{f"--{name}": value for name, value in given.items()}}
    recipe = run(content)["recipe"]
    assert tuple(recipe.get(f"scheduler{key}") for key in ("", ".warmup", ".num_cycles")) == wanted


def test_simple_tuners_wave_is_ours(run: Run) -> None:
    """At every tenth step, against custom_schedule.Cosine: T_0 steps down, T_0 steps up."""
    recipe = run({**SIMPLE_TUNER, "--lr_scheduler": "cosine", "--lr_warmup_steps": 300})["recipe"]
    curve = cosine_with_soft_restarts.build(2000, num_cycles=recipe["scheduler.num_cycles"], warmup=0)
    for step in range(0, 2000, 10):
        assert curve(step, 1.0) == pytest.approx((1 + math.cos(math.pi * step / 300)) / 2, abs=1e-9)


@pytest.mark.parametrize(
    ("family", "flavour", "word"),
    [("flux", "kontext", "kontext"), ("flux2", "dev", "dev"), ("qwen_image", "edit-v1", "edit-v1")],
)
def test_a_flavour_that_is_another_base_is_refused(
    family: str, flavour: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**SIMPLE_TUNER, "--model_family": family, "--model_flavour": flavour}))
    assert main(["import", str(file)]) == 2
    assert word in capsys.readouterr().err


def test_simple_tuners_z_image_is_trained_beside_an_adapter(run: Run) -> None:
    turbo = {**SIMPLE_TUNER, "--model_family": "z_image"}
    found = run(turbo)
    assert has(found, base__adapter="???") and "base.adapter" in told(found, "untranslated")["model_flavour"]
    for given in ({"--model_flavour": "base"}, {"--disable_assistant_lora": True}):
        assert "base.adapter" not in run({**turbo, **given})["recipe"]


@pytest.mark.parametrize(
    ("target", "ours", "is_told"), [(None, "attn", False), ("all+ffs", "attn-mlp", False), ("tiny", "attn", True)]
)
def test_which_layers_of_flux_simple_tuner_takes(target: str | None, ours: str, is_told: bool, run: Run) -> None:
    found = run({**SIMPLE_TUNER, "--model_family": "flux", **({"--flux_lora_target": target} if target else {})})
    assert has(found, adapter__targets=ours)
    assert ("flux_lora_target" in told(found, "untranslated")) == is_told


def test_the_dataloader_of_a_lycoris_is_not_its_network(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps([{"id": "zkw", "instance_data_dir": "/img/zkw"}]))
    (tmp_path / "lycoris_config.json").write_text('{"algo": "loha", "linear_dim": 8}')
    found = run({**SIMPLE_TUNER, "--lora_type": "lycoris"}, "--dataset", str(tmp_path / "mine.json"))
    assert has(found, adapter="loha", adapter__dim=8, dataset__path="/img/zkw")


def test_the_toml_of_a_window_that_names_a_family_is_musubi_tuners(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = 'model_family = "FLUX.2"\nmodel_version = "klein-base-4b"\ndit = "/m"\n'
    text += 'network_module = "networks.lora_flux_2"\n'
    (tmp_path / "c.toml").write_text(text, encoding="utf-8")
    assert main(["import", str(tmp_path / "c.toml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["base"] == "flux2_klein"


def test_losses_of_other_trainers_are_ours_where_they_are_the_same(run: Run) -> None:
    assert has(run({**ONE_TRAINER, "mae_strength": 1.0, "mse_strength": 0.0}), noise__loss_type="l1")
    found = run({**ONE_TRAINER, "mse_strength": 2.0})
    assert has(found, noise__loss_type="l2") and "counts once here" in told(found, "differs")["mse_strength"]
    found = run({**ONE_TRAINER, "mae_strength": 0.5, "huber_strength": 0.5})
    assert has(found, noise__loss_type="l2")
    assert {"mse_strength", "mae_strength", "huber_strength"} <= told(found, "untranslated").keys()
    found = run({**ONE_TRAINER, "mse_strength": 0.0, "log_cosh_strength": 1.0})
    assert has(found, noise__loss_type="l2") and "log-cosh" in told(found, "untranslated")["log_cosh_strength"]

    assert has(run(ai_toolkit_job(train={"loss_type": "mae"})), noise__loss_type="l1")
    found = run(ai_toolkit_job(train={"loss_type": "pseudo_huber"}))
    assert has(found, noise__loss_type="smooth_l1", noise__huber_c=0.01, noise__huber_schedule="constant")
    reasons = [note["reason"] for note in found["differs"] if note["option"] == "train.loss_type"]
    assert ["twice theirs" in each for each in reasons] == [True, False] and "preserved" in reasons[1]
    found = run(ai_toolkit_job(train={"loss_type": "wavelet"}))
    assert has(found, noise__loss_type="l2") and "stands in" in told(found, "untranslated")["train.loss_type"]


def test_simple_tuners_loss_and_perturbation(run: Run) -> None:
    assert has(run(SIMPLE_TUNER), noise__loss_type="l2", noise__huber_c=None, noise__input_perturbation=None)
    given = {**SIMPLE_TUNER, "--loss_type": "smooth_l1", "--huber_c": 0.2, "--input_perturbation": 0.1}
    found = run(given)
    assert has(found, noise__loss_type="smooth_l1", noise__huber_c=0.2, noise__huber_schedule="snr")
    assert has(found, noise__input_perturbation=0.1)
    fades = run({**given, "--input_perturbation_steps": 500, "--model_family": "flux"})
    assert has(fades, noise__input_perturbation=None, noise__huber_schedule="constant")
    left = told(fades, "untranslated")
    assert "fades" in left["input_perturbation"] and "flow matching" in left["huber_schedule"]


def test_one_trainers_masks(run: Run) -> None:
    found = run({**ONE_TRAINER, "masked_training": True, "normalize_masked_area_loss": True})
    assert has(found, dataset__masks="beside")
    assert {each["key"]: each["OneTrainer"] for each in found["defaults"]}["dataset.unmasked_weight"] == 0.1
    assert {"normalize_masked_area_loss", "unmasked_probability"} <= told(found, "untranslated").keys()
    assert "dataset.masks" not in run(ONE_TRAINER)["recipe"]


@pytest.mark.parametrize(
    ("given", "masks"), [({"mask_path": "/masks"}, "/masks"), ({"mask_path": "/masks", "alpha_mask": True}, "alpha")]
)
def test_ai_toolkits_masks(given: dict[str, Any], masks: str, run: Run) -> None:
    content = copy.deepcopy(AI_TOOLKIT)
    content["config"]["process"][0]["datasets"][0] |= {**given, "mask_min_value": 0.25, "invert_mask": True}
    found = run(content, name="config.yaml")
    assert has(found, dataset__masks=masks, dataset__unmasked_weight=0.25)
    assert "datasets.invert_mask" in told(found, "untranslated")


def test_a_dataset_that_is_given_is_read_where_the_config_names_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps([{"id": "zkw", "instance_data_dir": "/img/zkw"}]))
    config = {key: value for key, value in SIMPLE_TUNER.items() if "data_backend_config" not in key}
    assert has(run(config, "--dataset", str(tmp_path / "mine.json")), dataset__path="/img/zkw")
