"""What is given beside a key that decides is told as not read; what cannot be meant is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from lorasweep import cli


def warnings_of(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert cli.main(["plan", *words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    arms = plan["arms"] if "arms" in plan else [plan]
    return [warning for arm in arms for warning in arm["warnings"]]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["plan", *words]) == 2
    return capsys.readouterr().err


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(6):
        Image.effect_noise((64, 64), 20 + 20 * index).convert("RGB").save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"zkw, tag{index}")
    return folder


@pytest.mark.parametrize("knob", ["epochs=4", "steps_per_epoch=10"])
def test_epochs_beside_max_steps_are_told_as_not_read(knob: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = f"train.max_steps=300 decides: train.{knob.partition('=')[0]} is not read"
    assert any(told in each for each in warnings_of(capsys, f"train.{knob}", "train.max_steps=300"))
    assert not any(told in each for each in warnings_of(capsys, f"train.{knob}"))


def test_a_sweep_files_steps_that_decide_over_typed_epochs_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = warnings_of(capsys, "quickstart", "train.epochs=4")
    assert any("train.max_steps=320 decides: train.epochs is not read, got 4" in each for each in told)


def test_knobs_of_the_drawn_dataset_beside_images_are_told_as_not_read(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = warnings_of(capsys, f"dataset.path={images}", "dataset.dollhouse.images=40")
    assert any("dataset.dollhouse.images=40 is not read" in each for each in told)
    for group in ("dollhouse", "folder"):
        quiet = warnings_of(capsys, f"dataset={group}", f"dataset.path={images}")
        assert not any("not read" in each for each in quiet)


@pytest.mark.parametrize(
    "key", ["dataset.path", "base.path", "encoders.clip", "calibration", "regularization.reg_images.path"]
)
@pytest.mark.parametrize("value", ["", '""', " "])
def test_an_empty_path_is_not_the_current_folder(key: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "must not be empty" in refused(capsys, "regularization=reg_images", f"{key}={value}")


def test_an_empty_path_in_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("recipe:\n  dataset.path: ''\n")
    assert "dataset.path  must not be empty" in refused(capsys, str(file))


@pytest.mark.parametrize("key", ["seed", "dataset.holdout_seed"])
def test_minus_one_is_no_random_seed(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{key}  must be in [0, 9223372036854775807], got -1" in refused(capsys, f"{key}=-1")


@pytest.mark.parametrize(("group", "typed", "meant"), [("adapter", "LoRA", "lora"), ("optimizer", "CAME", "came")])
def test_capitals_are_no_other_word(group: str, typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"did you mean `{meant}`?" in refused(capsys, f"{group}={typed}")


def test_a_rate_over_two_ranges_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    told = warnings_of(capsys, "adapter=ia3", "optimizer.lr=0.3")
    assert sum("optimizer.lr=0.3 is over" in each for each in told) == 1
