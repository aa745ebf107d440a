"""What cannot act within a training is refused by `plan`, and what does nothing is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lorasweep.cli import main

ENOUGH = {"dataset.dollhouse.images": "8", "optimizer.lr": "2e-3", "train.max_steps": "300"}
ANNEALED = "scheduler=annealed_cosine_warmup_restarts"


def typed(words: Sequence[str]) -> list[str]:
    """Enough to be left in peace, but for what the words say otherwise."""
    own = {word.partition("=")[0] for word in words}
    return [*(f"{key}={value}" for key, value in ENOUGH.items() if key not in own), *words]


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["scheduler.warmup=300"], "scheduler.warmup"),
        (["scheduler=constant", "scheduler.warmup=5000"], "scheduler.warmup"),
        (["scheduler=linear", "scheduler.warmup=0.999"], "scheduler.warmup"),
        (["scheduler=rex", "train.max_steps=4", "scheduler.warmup=4"], "scheduler.warmup"),
        (["scheduler.num_cycles=301"], "scheduler.num_cycles"),
        (["scheduler.num_cycles=150", "scheduler.warmup=200"], "scheduler.num_cycles"),
        (["scheduler=cosine_with_soft_restarts", "scheduler.num_cycles=400.5"], "scheduler.num_cycles"),
        ([ANNEALED, "scheduler.num_cycles=301"], "scheduler.num_cycles"),
        ([ANNEALED, "scheduler.warmup=100"], "scheduler.warmup"),
        (["train.rungs=301"], "train.rungs"),
        (["captions.trigger=' zkw '"], "captions.trigger"),
        (["sample.class_seeds=3"], "sample.class_seeds"),
        (["sample.class_seeds=1000000000"], "sample.class_seeds"),
        (["buckets.max_side=1000000000"], "buckets.max_side"),
        (["buckets=all_under_area", "buckets.max_side=1000000000"], "buckets.max_side"),
        (
            ["regularization=neutralize", "regularization.neutralize.images=1000000000"],
            "regularization.neutralize.images",
        ),
        (
            ["regularization=reg_images", "regularization.reg_images.strangers=1000000000"],
            "regularization.reg_images.strangers",
        ),
        (
            ["regularization=prior_prediction", "regularization.prior_prediction.prior_loss_weight=1e9"],
            "regularization.prior_prediction.prior_loss_weight",
        ),
        (["optimizer=prodigy", "optimizer.d0=1e9"], "optimizer.d0"),
        (["optimizer=prodigy", "optimizer.d_coef=1e9"], "optimizer.d_coef"),
        (["optimizer.weight_decay=1e9"], "optimizer.weight_decay"),
        (["optimizer.eps=1e9"], "optimizer.eps"),
        (["noise=logit_normal", "noise.mean=-1e9"], "noise.mean"),
        (["noise=logit_normal", "noise.std=1e9"], "noise.std"),
        (["noise.shift=1e9"], "noise.shift"),
        (["noise.min_snr_gamma=1e9"], "noise.min_snr_gamma"),
        (["noise.p2_gamma=1e9"], "noise.p2_gamma"),
        (["launcher.threads=1000000000"], "launcher.threads"),
        (["launcher.workers=1000000000"], "launcher.workers"),
        (["base.clip_skip=12"], "base.clip_skip"),
        (["base.prediction_type=v_prediction"], "base.prediction_type"),
        (["base.prediction_type=v"], "base.prediction_type"),
    ],
)
def test_what_cannot_act_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], where: str
) -> None:
    assert main(["plan", *typed(words)]) == 2
    assert f"  {where}  " in capsys.readouterr().err


def warnings(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["plan", "--json", *typed(words)]) == 0
    found: list[str] = json.loads(capsys.readouterr().out)["warnings"]
    return found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optimizer.lr=1.0"], "optimizer.lr=1 is over 0.01 with adamw"),
        (["adapter.text_encoder=true", "optimizer.text_encoder_lr=1.0"], "optimizer.text_encoder_lr=1 is over 0.01"),
        (["adapter.alpha=1e9"], "adapter.alpha=1e+09 is 31,250,000 x adapter.dim=32"),
        (["adapter=dylora", "adapter.alpha=1e9"], "adapter.alpha=1e+09 is 15,625,000 x adapter.dim=64"),
        (["optimizer=came", "optimizer.lr=0.5"], "optimizer.lr=0.5 is over 0.01 with came"),
        (["optimizer=schedule_free_adamw", "optimizer.lr=1.0", "scheduler=constant"], "is over 0.01"),
        (["optimizer=prodigy", "optimizer.lr=1e-4"], "prodigy finds its own step size"),
        (["optimizer=dadapt_adam", "optimizer.lr=1e-4"], "dadapt_adam finds its own step size"),
        (["captions.dropout=1.0"], "trains on empty captions only"),
        (["captions.tag_dropout=1.0"], "only the first 1 tags are ever seen"),
        (["captions.keep_tokens=3"], "does nothing without captions.shuffle"),
        (
            ["captions=shuffled", "captions.keep_tokens=50"],
            "captions.shuffle does nothing: no caption has two",
        ),
        (["captions=shuffled", "captions.separator=;"], "separated by ';'"),
        (["captions.tag_dropout=0.1", "captions.keep_tokens=50"], "captions.tag_dropout does nothing"),
        (["captions.prune=[zkw]"], "the trigger zkw stays in the captions"),
        (["adapter.dim=4096"], "adapter.dim=4096 is beyond the rank of any layer of the base"),
        (["adapter=locon", "adapter.conv_dim=2000", "adapter.force=true"], "adapter.conv_dim=2000 is beyond"),
        (["optimizer.text_encoder_lr=1e-5"], "is not used: adapter.text_encoder is false"),
        (
            ["optimizer.text_encoder_lr=0", "adapter.text_encoder=true"],
            "adapter.text_encoder=false costs less",
        ),
        (["train.gradient_accumulation=500"], "a step never holds the 500"),
        (["train.steps_per_epoch=7"], "train.steps_per_epoch is not read"),
        ([ANNEALED, "scheduler.min_lr=0.5"], "is no floor under"),
        (["base.negative_prompt=blurry", "sample.guidance=1"], "base.negative_prompt is not used"),
        (["captions.decouple=1"], "no caption that is trained on has the trigger"),
        (["train.max_steps=4", "train.rungs=9"], "leave room for 4 rungs, not 9"),
        (["train.max_steps=2", "train.rungs=1"], "no room for scheduler.num_cycles=3"),
    ],
)
def test_what_does_nothing_is_told(home: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert any(said in warning for warning in warnings(capsys, *words)), said


@pytest.mark.parametrize(("name", "is_told"), [("flux1_dev", True), ("ideogram4", True), ("z_image", False)])
def test_a_negative_prompt_that_no_base_reads_is_told(
    name: str, is_told: bool, tiny_flow: Callable[[str], Path], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"base={name}", f"base.path={tiny_flow(name)}", "base.resolution=32", "base.bucket_step=8"]
    told = warnings(capsys, *words, "base.negative_prompt=blurry", "sample.guidance=4")
    assert any("base.negative_prompt is not used" in text for text in told) == is_told


def test_a_lokr_of_whole_matrices_costs_nothing_more(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = warnings(capsys, "adapter=lokr", "adapter.dim=100000", "adapter.alpha=100000")
    assert told and not any("beyond the rank" in text or "adapter.dim" in text for text in told)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["optimizer=prodigy", "optimizer.lr=1", "scheduler=constant"],
        ["adapter.text_encoder=true", "optimizer.text_encoder_lr=1e-4"],
        ["scheduler=cosine", "scheduler.warmup=0.1"],
        [ANNEALED],
        ["captions=shuffled"],
    ],
)
def test_ordinary_recipes_are_left_in_peace(home: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    told = [text for text in warnings(capsys, *words) if "held out" not in text]
    assert told == []
