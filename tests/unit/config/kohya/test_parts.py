"""Each part of a kohya config against something else: libraries' signatures and curves, kohya's rules."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import shipped

from lorasweep.config.importing.finish import Imported
from lorasweep.config.kohya.options import DEFAULTS
from lorasweep.core import registry
from lorasweep.core.errors import ConfigError

Bring = Callable[[str], tuple[dict[str, Any], Imported]]


def left(imported: Imported) -> dict[str, str]:
    """Options that were given and could not be translated."""
    return {note.option: note.reason for note in imported.untranslated if note.value is not None}


def differing(imported: Imported) -> dict[str, str]:
    return {note.option: note.reason for note in imported.differs}


# ------------------------------------------------------------------------------------------------ network


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('network_module="networks.lora"', {"adapter": "lora", "adapter.dim": 4, "adapter.alpha": 1.0}),
        ("network_dim=8\nnetwork_alpha=0", {"adapter": "lora", "adapter.dim": 8, "adapter.alpha": 8.0}),
        # kohya: conv_alpha is 1 when not given, not network_alpha
        (
            'network_alpha=16\nnetwork_args=["conv_dim=8"]',
            {"adapter": "locon", "adapter.conv_dim": 8, "adapter.conv_alpha": 1.0, "adapter.alpha": 16.0},
        ),
        (
            'network_args=["conv_dim=128", "conv_alpha=64"]',
            {"adapter": "locon", "adapter.conv_dim": 128, "adapter.force": True},
        ),
        (
            'network_module="networks.dylora"\nnetwork_dim=64\nnetwork_alpha=32\nnetwork_args=["unit=4"]',
            {"adapter": "dylora", "adapter.unit": 4, "adapter.targets": "attn-mlp"},
        ),
        # LyCORIS: preset full, and the convolutions get the other rank when they have none of their own
        (
            'network_module="lycoris.kohya"\nnetwork_dim=16\nnetwork_alpha=8',
            {"adapter": "locon", "adapter.conv_dim": 16, "adapter.conv_alpha": 8.0},
        ),
        (
            'network_module="lycoris.kohya"\nnetwork_args=["algo=locon", "preset=attn-only"]',
            {"adapter": "lora", "adapter.targets": "attn"},
        ),
        # its rs_lora divides by the root of each rank
        (
            'network_module="lycoris.kohya"\nnetwork_dim=16\nnetwork_alpha=8\nnetwork_args=["rs_lora=True"]',
            {"adapter.alpha": 32.0, "adapter.conv_alpha": 32.0},
        ),
        (
            'network_module="lycoris.kohya"\nnetwork_dim=16\nnetwork_args=["rs_lora=True","conv_dim=4","conv_alpha=20"]',
            {"adapter.alpha": 4.0, "adapter.conv_alpha": 40.0, "adapter.force": True},
        ),
        (
            'network_module="lycoris.kohya"\nnetwork_dim=4\nnetwork_alpha=0\nnetwork_args=["algo=loha","rs_lora=True"]',
            {"adapter": "loha", "adapter.alpha": 8.0},
        ),
        (
            'network_module="lycoris.kohya"\nnetwork_dim=16\nnetwork_args=["algo=dylora","rs_lora=True"]',
            {"adapter": "dylora", "adapter.alpha": 1.0},
        ),
        (
            'network_module="lycoris.kohya"\nnetwork_dim=8\nnetwork_args=["algo=loha", "preset=attn-mlp"]',
            {"adapter": "loha", "adapter.dim": 8, "adapter.targets": "attn-mlp"},
        ),
        (
            'network_module="lycoris.kohya"\nnetwork_args=["algo=lokr","factor=8","decompose_both=True"]',
            {
                "adapter": "lokr",
                "adapter.factor": 8,
                "adapter.decompose_both": True,
                "adapter.targets": "full",
            },
        ),
        ('network_module="lycoris.kohya"\nnetwork_args=["algo=ia3"]', {"adapter": "ia3"}),
        (
            'network_module="lycoris.kohya"\nnetwork_args=["algo=lora","dora_wd=True","preset=attn-mlp"]',
            {"adapter": "dora", "adapter.targets": "attn-mlp"},
        ),
        ("network_train_unet_only=true", {"adapter.text_encoder": False}),
        ("text_encoder_lr=0", {"adapter.text_encoder": False}),
        ("text_encoder_lr=[1e-5, 2e-5]", {"adapter.text_encoder": True, "optimizer.text_encoder_lr": 1e-5}),
    ],
)
def test_networks(text: str, expected: dict[str, Any], bring: Bring) -> None:
    recipe, _ = bring(text)
    assert {key: recipe.get(key) for key in expected} == expected


FLUX = 'network_module="lycoris.kohya"\nae="/ae.safetensors"\nclip_l="/clip.safetensors"\nt5xxl="/t5.safetensors"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'network_args=["algo=lokr", "factor=8"]\nnetwork_dim=8',
            {"adapter": "lokr", "adapter.targets": "full", "adapter.factor": 8},
        ),
        ('network_args=["algo=locon", "preset=attn-mlp"]', {"adapter": "lora", "adapter.targets": "full"}),
        ('network_args=["algo=loha", "preset=attn-only"]', {"adapter": "loha", "adapter.targets": "attn"}),
        ('network_args=["algo=lora", "dora_wd=True"]', {"adapter": "dora", "adapter.targets": "full"}),
        ('model_type="chroma"', {"base": "chroma", "adapter": "lora"}),
    ],
)
def test_lycoris_on_flux(text: str, expected: dict[str, Any], bring: Bring) -> None:
    """sd-scripts' own script says so, and in a config the text encoders: LyCORIS is a network for any base."""
    recipe, imported = bring(FLUX + text)
    wanted = {"base": "flux1_dev", "noise.levels": "uniform"} | expected
    assert {key: recipe.get(key) for key in wanted} == wanted
    assert "queries, keys and values share" in differing(imported)["network_module"]
    assert not any("conv_in" in reason for reason in differing(imported).values())


def test_an_unknown_network_is_listed_and_something_stands_in(bring: Bring) -> None:
    for text in (
        'network_module="networks.oft"',
        'network_module="lycoris.kohya"\nnetwork_args=["algo=boft"]',
    ):
        recipe, imported = bring(text)
        assert recipe["adapter"] in ("lora", "locon")
        assert any("stands in" in reason for reason in left(imported).values())
    _, imported = bring('network_module="lycoris.kohya"\nnetwork_dim=8\nnetwork_args=["algo=loha","conv_dim=4"]')
    assert "one rank" in left(imported)["network_args.conv_dim"]
    _, imported = bring('network_dropout=0.1\nnetwork_module="networks.dylora"')
    assert "no dropout" in left(imported)["network_dropout"]
    recipe, imported = bring('network_dropout=0.1\nnetwork_module="networks.lora"')
    assert recipe["adapter.dropout"] == 0.1 and "ours what goes into it" in differing(imported)["network_dropout"]


@pytest.mark.parametrize(
    ("text", "taken", "told"),
    [
        ('network_module="networks.lora"', {"rank_dropout", "module_dropout"}, {}),
        ('network_module="networks.dylora"', set(), {"rank_dropout": "none", "module_dropout": "none"}),
        (
            'network_module="lycoris.kohya"\nnetwork_args=["algo=lokr"]',
            {"rank_dropout", "module_dropout"},
            {},
        ),
        ('network_module="lycoris.kohya"\nnetwork_args=["algo=loha"]', {"module_dropout"}, {"rank_dropout": "none"}),
        (
            'network_module="lycoris.kohya"\nnetwork_args=["algo=locon"]',
            {"rank_dropout", "module_dropout"},
            {"rank_dropout": "drops outputs of a layer"},
        ),
    ],
)
def test_dropped_ranks_and_layers_are_taken_over(
    text: str, taken: set[str], told: dict[str, str], bring: Bring
) -> None:
    arguments = '"rank_dropout=0.1", "module_dropout=0.2"'
    text = text.replace('"]', f'", {arguments}]') if "args" in text else f"{text}\nnetwork_args=[{arguments}]"
    recipe, imported = bring(text)
    values = {"rank_dropout": 0.1, "module_dropout": 0.2}
    assert {knob: recipe[f"adapter.{knob}"] for knob in values if f"adapter.{knob}" in recipe} == {
        knob: values[knob] for knob in taken
    }
    found = {**left(imported), **differing(imported)}
    assert {knob for knob in values if f"network_args.{knob}" in found} == told.keys()
    assert all(words in found[f"network_args.{knob}"] for knob, words in told.items())


@pytest.mark.parametrize(
    ("text", "ratio", "told"),
    [
        ('network_args=["loraplus_lr_ratio=4"]', 4.0, None),
        ('network_args=["loraplus_lr_ratio=4","loraplus_unet_lr_ratio=8"]', 8.0, "both parts have one ratio, 8"),
        ('network_args=["loraplus_text_encoder_lr_ratio=4"]', None, "both parts have one ratio, 1"),
        (
            'network_args=["loraplus_lr_ratio=4","loraplus_unet_lr_ratio=8"]\nnetwork_train_unet_only=true',
            8.0,
            None,
        ),
        ('network_args=["loraplus_unet_lr_ratio=0"]', None, None),
        ('optimizer_type="Prodigy"\nnetwork_args=["loraplus_lr_ratio=4"]', None, "one step size for all that trains"),
        ('network_module="networks.dylora"\nnetwork_args=["loraplus_lr_ratio=4"]', 4.0, None),
        # LyCORIS, where no factor of a LoHa is called lora_up
        ('network_module="lycoris.kohya"\nnetwork_args=["algo=loha","loraplus_lr_ratio=4"]', None, None),
        ('network_module="lycoris.kohya"\nnetwork_args=["algo=locon","loraplus_lr_ratio=4"]', 4.0, None),
    ],
)
def test_loraplus_is_taken_over_where_it_acts(text: str, ratio: float | None, told: str | None, bring: Bring) -> None:
    recipe, imported = bring(text if "module" in text else f'network_module="networks.lora"\n{text}')
    assert recipe.get("optimizer.loraplus_lr_ratio") == ratio
    reasons = [reason for option, reason in left(imported).items() if "loraplus" in option]
    assert reasons == [] if told is None else told in reasons[0]


# ---------------------------------------------------------------------------------------------- optimizer


@pytest.mark.parametrize(
    ("asked", "ours", "library"),
    [
        ("AdamW", "adamw", "torch.optim.AdamW"),
        ("Prodigy", "prodigy", "prodigyopt.Prodigy"),
        ("Adafactor", "adafactor", "transformers.optimization.Adafactor"),
    ],
)
def test_knobs_that_are_not_given_are_those_of_kohyas_library(
    asked: str, ours: str, library: str, bring: Bring
) -> None:
    """Reference: the signature of the class that sd-scripts builds."""
    module, _, name = library.rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    recipe, _ = bring(f'optimizer_type = "{asked}"\nlearning_rate = 1.0')
    assert recipe["optimizer"] == ours
    own = {key.split(".")[1]: value for key, value in recipe.items() if key.startswith("optimizer.")}
    compared = [knob for knob in own if knob in signature and knob != "lr"]
    assert len(compared) >= 3
    for knob in compared:
        default = signature[knob].default
        assert own[knob] == (list(default) if isinstance(default, tuple) else default), knob


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("use_8bit_adam=true", "adamw8bit"),
        ("use_lion_optimizer=true", "lion"),
        ('optimizer_type="PagedAdamW8bit"', "adamw8bit"),
        ('optimizer_type="DAdaptAdam"', "dadapt_adam"),
        ('optimizer_type="pytorch_optimizer.CAME"', "came"),
        ('optimizer_type="AdamWScheduleFree"', "schedule_free_adamw"),
        ('optimizer_type="SGDNesterov"', "adamw"),
    ],
)
def test_optimizers_by_their_names(text: str, ours: str, bring: Bring) -> None:
    recipe, imported = bring(text)
    assert recipe["optimizer"] == ours
    assert ("optimizer_type" in left(imported)) is ("SGD" in text)


def test_rates_and_arguments(bring: Bring) -> None:
    recipe, imported = bring(
        'learning_rate=1e-3\nunet_lr=1e-4\noptimizer_args=["weight_decay=0.1","betas=(0.9, 0.95)","foreach=True"]'
    )
    assert recipe["optimizer.lr"] == 1e-4 and recipe["optimizer.text_encoder_lr"] == 1e-3
    assert recipe["optimizer.weight_decay"] == 0.1 and recipe["optimizer.betas"] == [0.9, 0.95]
    assert "no such knob" in left(imported)["optimizer_args.foreach"]
    recipe, imported = bring(
        'optimizer_type="Prodigy"\nunet_lr=1\ntext_encoder_lr=0.5\noptimizer_args=["decouple=False"]'
    )
    assert "optimizer.text_encoder_lr" not in recipe and "one step size" in differing(imported)["text_encoder_lr"]
    assert "decouple=True" in left(imported)["optimizer_args.decouple"]
    _, imported = bring('optimizer_type="Adafactor"')
    assert "relative_step=False" in left(imported)["optimizer_args.relative_step"]  # kohya's default is True
    _, imported = bring('optimizer_type="Adafactor"\noptimizer_args=["relative_step=False", "warmup_init=False"]')
    assert not left(imported).keys() & {"optimizer_args.relative_step", "optimizer_args.warmup_init"}


# ---------------------------------------------------------------------------------------------- schedule


def curve(recipe: dict[str, Any], steps: int, peak: float) -> list[float]:
    options = {key.split(".")[1]: value for key, value in recipe.items() if key.startswith("scheduler.")}
    module = registry.load("scheduler", recipe["scheduler"])
    built = shipped.build(module, steps, **options)
    return [built(step, peak) for step in range(steps)]


@pytest.mark.parametrize(
    "text",
    [
        'lr_scheduler="constant"',
        'lr_scheduler="constant_with_warmup"\nlr_warmup_steps=7',
        'lr_scheduler="linear"\nlr_warmup_steps=0.1',
        'lr_scheduler="cosine"\nlr_warmup_steps=5',
        'lr_scheduler="cosine_with_restarts"\nlr_scheduler_num_cycles=3',
        'lr_scheduler="cosine_with_min_lr"\nlr_scheduler_min_lr_ratio=0.1',
        'lr_scheduler="polynomial"',
    ],
)
def test_schedules_are_those_that_sd_scripts_builds(text: str, bring: Bring) -> None:
    """Reference: transformers' get_scheduler, called as sd-scripts' get_scheduler_fix calls it."""
    import tomllib

    import torch
    from transformers.optimization import get_scheduler

    recipe, imported = bring(f"{text}\nlearning_rate=1e-3\nmax_train_steps=60")
    given = tomllib.loads(text)
    warmup = given.get("lr_warmup_steps", 0)
    warmup = int(warmup * 60) if isinstance(warmup, float) else warmup
    more: dict[str, Any] = {}
    if given["lr_scheduler"] == "cosine_with_restarts":
        more = {"num_cycles": given["lr_scheduler_num_cycles"]}
    if given["lr_scheduler"] == "cosine_with_min_lr":
        more = {"num_cycles": 0.5, "min_lr_rate": 0.1}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    theirs = get_scheduler(given["lr_scheduler"], optimizer, warmup, 60, scheduler_specific_kwargs=more)
    expected = []
    for _ in range(60):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert curve(recipe, 60, 1e-3) == pytest.approx(expected, rel=1e-6, abs=1.1e-7)
    assert not left(imported)


def test_what_a_schedule_of_kohya_does_otherwise_is_told(bring: Bring) -> None:
    recipe, imported = bring('lr_scheduler="cosine"\nlr_warmup_steps=100.0')
    assert recipe["scheduler.warmup"] == 100 and "takes a number with a point" in differing(imported)["lr_warmup_steps"]
    recipe, imported = bring('lr_scheduler="polynomial"\nlr_scheduler_power=2')
    assert recipe["scheduler"] == "linear" and "polynomial curves" in left(imported)["lr_scheduler_power"]
    recipe, _ = bring('lr_scheduler="cosine"\noptimizer_type="AdamWScheduleFree"\nlr_warmup_steps=5')  # has none there
    assert recipe["scheduler"] == "constant" and recipe["scheduler.warmup"] == 0


def test_restarts_with_warm_up_of_easy_training_scripts(bring: Bring) -> None:
    text = (
        'lr_scheduler_type="LoraEasyCustomOptimizer.CustomOptimizers.CosineAnnealingWarmupRestarts"\n'
        'lr_scheduler_args=["first_cycle_steps=50","gamma=0.8","warmup_steps=5","min_lr=1e-7","foo=1"]\n'
    )
    recipe, imported = bring(text + "max_train_steps=200")
    assert recipe["scheduler"] == "annealed_cosine_warmup_restarts" and recipe["scheduler.num_cycles"] == 4
    assert recipe["scheduler.gamma"] == 0.8 and recipe["scheduler.warmup"] == 5
    assert recipe["scheduler.min_lr"] == 1e-7 and set(left(imported)) == {"lr_scheduler_args.foo"}
    assert "lr_scheduler_args.first_cycle_steps" not in differing(imported)
    for steps, cycles, length in ((230, 4, 57), (40, 1, 40)):
        recipe, imported = bring(f"{text}max_train_steps={steps}")
        assert recipe["scheduler.num_cycles"] == cycles
        assert f"has {length} steps" in differing(imported)["lr_scheduler_args.first_cycle_steps"]
    _, imported = bring(text + "max_train_epochs=2")
    assert "scheduler.num_cycles" in left(imported)["lr_scheduler_args.first_cycle_steps"]
    for unknown in ("torch.optim.lr_scheduler.CosineAnnealingWarmRestarts", "OneCycleLR"):
        recipe, imported = bring(f'lr_scheduler_type="{unknown}"')
        assert recipe["scheduler"] == "constant" and "stands in" in left(imported)["lr_scheduler_type"]


# ----------------------------------------------------------------------------------------------- buckets


def kohya_sizes(width: int, height: int, low: int, high: int, step: int) -> set[tuple[int, int]]:
    """sd-scripts' buckets, written down anew: per side the longest other side that fits the area."""
    low, high = low - low % step, high + -high % step
    area, sizes = width * height, set()
    side = int(math.sqrt(area)) // step * step
    sizes.add((side, side))
    for one in range(low, high + 1, step):
        other = min(high, (area // one) // step * step)
        if other >= low:
            sizes |= {(one, other), (other, one)}
    return sizes


@pytest.mark.parametrize(
    ("resolution", "low", "high", "step"),
    [
        ('"512"', 256, 1024, 64),
        ('"512,512"', 320, 960, 32),
        ("640", 256, 1024, 64),
        ("[768, 768]", 256, 1024, 64),
        ("1024", 512, 2048, 64),
        ("1024", 256, 2048, 64),
        ('"512,768"', 256, 1024, 64),
        ("[1216, 832]", 512, 2048, 64),
    ],
)
def test_buckets_are_kohyas(resolution: str, low: int, high: int, step: int, bring: Bring) -> None:
    from lorasweep.core.records import BaseOptions

    recipe, _ = bring(
        f"resolution={resolution}\nenable_bucket=true\nmin_bucket_reso={low}\n"
        f"max_bucket_reso={high}\nbucket_reso_steps={step}"
    )
    sides = [int(side) for side in resolution.strip('"[]').split(",")]
    base = BaseOptions(
        name="x", path=None, resolution=recipe["base.resolution"], bucket_step=recipe["base.bucket_step"]
    )
    name = {"kohya": "kohya", "single": "chosen"}[recipe["buckets"]]
    options = {key.split(".")[1]: value for key, value in recipe.items() if key.startswith("buckets.")}
    built = registry.load("buckets", name).build(base, **options)
    found = [(bucket.width_px, bucket.height_px) for bucket in built]
    assert set(found) == kohya_sizes(sides[0], sides[-1], low, high, step) and found == sorted(found)


def test_without_buckets_every_image_has_the_resolution(bring: Bring) -> None:
    recipe, _ = bring("resolution=512")
    assert recipe["buckets"] == "single" and recipe["base.resolution"] == 512
    recipe, _ = bring('resolution="512,704"')
    assert recipe["buckets.sizes"] == [[512, 704]]
    _, imported = bring('resolution="512,704"\nenable_bucket=true\nbucket_no_upscale=true')
    assert "square" in left(imported)["bucket_no_upscale"]


# ------------------------------------------------------------------------------------------- the rest


def test_triggers_bases_and_odd_values(bring: Bring) -> None:
    recipe, imported = bring('[a]\ncaption_prefix="zkw, "\n')
    assert recipe["captions.trigger"] == "zkw" and "lacks it" in differing(imported)["caption_prefix"]
    recipe, _ = bring('caption_extension=".caption"\ncaption_extention=".tags"')  # sd-scripts reads its old spelling
    assert recipe["captions.extension"] == ".tags"
    _, imported = bring('[a]\ncaption_prefix="zkw, 1girl, "\n')
    assert "several tags" in left(imported)["caption_prefix"]
    for path in ("runwayml/stable-diffusion-v1-5", "model.ckpt"):
        _, imported = bring(f'[a]\npretrained_model_name_or_path = "{path}"')
        assert "base.path" in imported.to_give and "pretrained_model_name_or_path" in left(imported)
    with pytest.raises(ConfigError, match="must be >= 1, got -3"):
        bring("network_dim = -3")
    recipe, imported = bring("clip_skip = 40")
    assert "base.clip_skip" not in recipe and "refused" in left(imported)["clip_skip"]
    recipe, _ = bring('network_dim = "16"\nshuffle_caption = 1\nseed = 0')
    assert recipe["adapter.dim"] == 16 and recipe["captions.shuffle"] is True and recipe["seed"] == 0


def test_defaults_are_those_of_sd_scripts() -> None:
    """Reference: the argument parser of kohya-ss/sd-scripts at 48d368fa; defaults that people trip over."""
    expected = {
        "network_alpha": 1,
        "learning_rate": 2e-6,
        "max_train_steps": 1600,
        "train_batch_size": 1,
        "keep_tokens": 0,
        "caption_extension": ".caption",
        "lr_scheduler": "constant",
        "lr_scheduler_num_cycles": 1,
        "bucket_reso_steps": 64,
        "prior_loss_weight": 1.0,
    }
    assert {key: DEFAULTS[key] for key in expected} == expected


# -------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize(
    ("text", "masks", "untranslated"),
    [
        ("alpha_mask=true", "alpha", set()),
        ('masked_loss=true\nconditioning_data_dir="/masks"', "/masks", set()),
        ('masked_loss=true\nconditioning_data_dir="/masks"\nalpha_mask=true', "/masks", set()),
        ("masked_loss=true", None, set()),
        ('conditioning_data_dir="/lines"', None, {"conditioning_data_dir"}),
    ],
)
def test_masks(bring: Bring, text: str, masks: str | None, untranslated: set[str]) -> None:
    found, imported = bring(text)
    assert found.get("dataset.masks") == masks
    assert set(left(imported)) & {"masked_loss", "alpha_mask", "conditioning_data_dir"} == untranslated
