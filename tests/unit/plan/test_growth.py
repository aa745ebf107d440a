"""Many images: planning grows with their number, not with its square, and what was found is remembered."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from PIL import Image

from lorasweep.cli import main


def photos(root: Path, count: int) -> Path:
    rng, folder = random.Random(0), root / "photos" / "1_style"
    folder.mkdir(parents=True)
    for number in range(count):
        image = Image.frombytes("RGB", (4, 4), rng.randbytes(48)).resize((32, 32))
        image.save(folder / f"{number:05}.png")
        (folder / f"{number:05}.txt").write_text(f"style, tag{number}")
    return folder.parent


@pytest.mark.slow
def test_three_thousand_images_are_planned_in_seconds(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, took = photos(home, 3_000), []
    for _ in range(2):
        begun = time.process_time()
        assert main(["plan", f"dataset.path={root}", "--json"]) == 0
        took.append(time.process_time() - begun)

    assert took[0] < 15 and took[1] < 5  # about 2 and 1 on one core; 20 when every pair was compared


@pytest.mark.parametrize("damage", ["[]", "{", '{"KEY": 5}', '{"KEY": {"sha256": "", "width_px": 1}}'])
def test_a_damaged_memory_of_images_costs_time_only(
    home: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    root, memory = photos(home, 5), home / "cache" / "images.json"
    assert main(["plan", f"dataset.path={root}", "--json"]) == 0
    whole = memory.read_text()
    key = next(iter(json.loads(whole)))
    memory.write_text(damage.replace('"KEY"', json.dumps(key)))

    assert main(["plan", f"dataset.path={root}", "--json"]) == 0
    assert memory.read_text() == whole


def test_names_of_sweeps_and_arms_are_bounded(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 151
    arms = f"{{{long}: {{adapter.dim: 4}}, {'y' * 150}: {{adapter.dim: 8}}}}"
    (home / f"{long}.yaml").write_text(f"sweep:\n  question: which?\n  arms: {arms}\n")

    assert main(["plan", str(home / f"{long}.yaml")]) == 2
    said = capsys.readouterr().err
    assert "a sweep's name must have at most 150 bytes" in said and f"sweep.arms.{long}" in said
    assert "yyy" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train.max_steps=100000000"], "train.max_steps  must come to at most 10,000,000 steps"),
        (["train.epochs=1000000000000"], "train.epochs  must come to at most 10,000,000 steps"),
        (["dataset.repeats=1000000000"], "an epoch must have at most 10,000,000 images, repeats counted"),
    ],
)
def test_numbers_that_would_fill_the_memory_are_refused(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["plan", f"dataset.path={photos(home, 5)}", *words]) == 2
    assert said in capsys.readouterr().err


def test_steps_of_a_concept_count_accumulated_batches(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dataset.holdout=0", "dataset.repeats=24", "train.batch_size=2", "train.gradient_accumulation=3"]
    assert main(["plan", f"dataset.path={photos(home, 5)}", *words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)

    assert plan["steps_per_epoch"] == plan["budget"]["concepts"]["1_style"]["steps_per_epoch"] == 20
