"""Recipe files: the same keys as the command line, and everything that can be wrong with one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorasweep.cli import main
from lorasweep.config import compose_recipe, is_recipe_file, load_recipe
from lorasweep.core.errors import ConfigError

GOOD = """
recipe:
  adapter: locon
  adapter.dim: 8
  optimizer: {lr: 2e-06}
  buckets.upscale: false
  captions: {trigger: "1e5", prune: ["* hair"]}
  seed: 3
"""
SAME = [
    "adapter=locon",
    "adapter.dim=8",
    "optimizer.lr=2e-6",
    "buckets.upscale=false",
    'captions.trigger="1e5"',
    'captions.prune=["* hair"]',
    "seed=3",
]


def write(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "mine.yaml").write_text(text, encoding="utf-8")
    return str(folder / "mine.yaml")


def test_a_file_is_the_same_as_its_keys_typed(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    assert is_recipe_file(file)
    assert load_recipe(file) == compose_recipe(SAME) != compose_recipe()
    assert load_recipe(file, ["adapter.dim=4"]) == compose_recipe(SAME, ["adapter.dim=4"])


def test_a_file_that_is_picked_later_takes_the_place_of_what_was_said_of_its_group(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        GOOD
        + "  train: {max_steps: 99, precision: bf16}\n  metrics: [burn, identity]\n  metrics.identity.tiers: [class]\n",
    )
    picked = load_recipe(file, ["train=debug", "optimizer=prodigy", "metrics=[identity]", "captions=absorbed"])
    assert picked.captions.trigger == "1e5"  # of which the file that is picked says nothing
    assert picked.metrics["identity"]["tiers"] == ["class"]  # still picked, so what was said of it stays
    assert picked.train == compose_recipe(["train=debug", "train.precision=bf16"]).train
    assert picked.optimizer == compose_recipe(["optimizer=prodigy"]).optimizer


def test_all_problems_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, "recipe: {adapter.dim: 0, optimizer: prodigyy, sample.weight: 9}")
    with pytest.raises(ConfigError) as caught:
        load_recipe(file)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sweep: {question: x}", "lorasweep sweep"),
        ("recipe: {}\nsweep: {}", "one top-level key"),
        ("[1]", "one top-level key"),
        ("recipe: 3", "must have keys"),
        ("recipe: {adapter: {_target_: os.system}}", "_target_"),
    ],
)
def test_what_is_no_recipe_file(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        load_recipe(write(tmp_path, text))


def test_plan_and_train_read_it(tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, "recipe: {train.max_steps: 7, adapter.dim: 2}")
    assert main(["plan", file, "train.batch_size=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps_per_trial"] == 7
    assert main(["train", file, "adapter.dim=0"]) == 2
    assert "adapter.dim" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "nowhere.yaml")]) == 2
    assert "no such recipe file" in capsys.readouterr().err


def test_a_folders_name_may_have_an_equals_sign_or_brackets(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hydra names them so: `multirun/lr=1e-4,seed=1`."""
    folder = tmp_path / "lr=1e-4,seed=1"
    file = write(folder, "recipe: {train.max_steps: 7}")
    assert main(["plan", file, "adapter.dim=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps_per_trial"] == 7
    assert main(["plan", file, "adapter.dim=2,4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == 2
    assert main(["train", file, "adapter.dim=0"]) == 2
    assert "adapter.dim" in capsys.readouterr().err
    file = write(folder, "sweep: {question: Which, arms: {a: {}, b: {adapter.dim: 4}, c: {adapter.dim: 2}}}")
    assert main(["plan", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == 3
    (folder / "x.safetensors").write_bytes(b"no LoRA")
    assert main(["judge", str(folder)]) == 2
    assert "x.safetensors" in capsys.readouterr().err
    folder.rename(tmp_path / "[a]")
    assert main(["judge", str(tmp_path / "[a]" / "*.safetensors")]) == 2
    assert "x.safetensors" in capsys.readouterr().err
    assert main(["plan", "~metrics.burn", "adapter.dim=2,4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == 2
