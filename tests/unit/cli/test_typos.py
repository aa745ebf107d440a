"""What a first-time user types is answered with what to type instead."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from lorasweep import cli
from lorasweep.config import sweeps_dir


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["trian", "optimizer=prodigy"], "did you mean `train`?"),
        (["imprt", "config.toml"], "did you mean `import`?"),
        (["optimizer=prodigy"], "lorasweep train optimizer=prodigy"),
        (["FOLDER"], "lorasweep train 'dataset.path=FOLDER'"),
        (["plan", "FOLDER"], "dataset.path=FOLDER"),
        (["train", "FOLDER"], "dataset.path=FOLDER"),
        (["sweep", "FOLDER"], "dataset.path=FOLDER"),
        (["plan", "quickstart", "FOLDER"], "dataset.path=FOLDER"),
        (["train", "my.toml"], "lorasweep import my.toml -o my.yaml"),
        (["plan", "config.json"], "lorasweep import config.json -o my.yaml"),
        (["sweep", "config.json"], "lorasweep import config.json -o my.yaml"),
        (["my.toml"], "lorasweep import my.toml -o my.yaml"),
        (["train", "my.safetensors"], "lorasweep judge my.safetensors"),
        (["train", "max_train_steps=100"], "kohya's name of `train.max_steps`"),
        (["plan", "quickstart", "network_dim=16"], "kohya's name of `adapter.dim`"),
        (["train", "lora_dropout=0.1"], "SimpleTuner's name of `adapter.dropout`"),
        (["train", "adapter.network_dim=16"], "kohya's name of `adapter.dim`"),
        (["train", "train.resolution=512"], "did you mean `base.resolution`?"),
        (
            ["train", "train.resolution=512", "sample.resolution=512"],
            "unknown key for `sample`; did you mean `base.res",
        ),
        (["train", "dataset.trigger=zkw"], "did you mean `captions.trigger`?"),
        (["plan", "base=sd1.5"], "did you mean `stable_diffusion`?"),
        (["plan", "base=Illustrious"], "did you mean `sdxl`?"),
    ],
)
def test_slips_are_answered_with_what_was_meant(
    words: list[str], advice: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "../my images"
    (tmp_path.parent / "my images").mkdir(exist_ok=True)

    code = cli.main([word.replace("FOLDER", str(folder)) for word in words])

    told = capsys.readouterr().err
    assert code == 2
    assert advice.replace("FOLDER", str(folder)) in told
    assert "recognition error" not in told


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "start here:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("optimizer.lr==1e-3", "optimizer.lr=1e-3"),
        ("optimizer.lr = 1e-3", "optimizer.lr=1e-3"),
        ("optimizer.lr=1e-3,", "optimizer.lr=1e-3"),
        ("optimizer.lr=1e−3", "optimizer.lr=1e-3"),
        ("optimizer.betas=(0.9,0.99)", "'optimizer.betas=[0.9,0.99]'"),
        ("adapter.targets=“attn”", "'adapter.targets=\"attn\"'"),
    ],
)
def test_slips_in_a_value_are_answered_with_what_works(
    word: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", word]) == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err
    assert cli.main(["plan", "--json", shlex.split(meant)[0]]) == 0


def test_a_part_given_by_its_name_is_picked_by_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "optimizer.name=prodigy"]) == 2
    told = capsys.readouterr().err
    assert "override: optimizer=prodigy" in told and "eps" not in told
    file = tmp_path / "recipe.yaml"
    file.write_text("recipe: {optimizer: {name: lion, lr: 1e-4}}\n")
    assert cli.main(["plan", str(file)]) == 2
    assert "override: optimizer=lion" in capsys.readouterr().err
    assert cli.main(["plan", "--json", "optimizer.name=adamw"]) == 0


@pytest.mark.parametrize("words", [["--network_dim=16"], ["--network_dim", "16", "seed=1"]])
def test_another_trainers_option_is_answered_with_the_key(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", *words])
    assert ended.value.code == 2
    assert "kohya's name of `adapter.dim`" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "plan", "sweep"])
def test_ai_toolkits_yaml_is_answered_with_its_import(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "theirs.yaml"
    file.write_text("job: extension\nconfig: {name: x, process: []}\n")
    assert cli.main([command, str(file)]) == 2
    assert f"lorasweep import {file}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "plan"])
def test_a_file_without_its_headline_is_answered_with_it(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("optimizer: prodigy\n")
    assert cli.main([command, str(file)]) == 2
    assert "under `recipe" in capsys.readouterr().err


def test_the_recipe_of_a_run_is_answered_with_how_it_is_cooked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plan.json").write_text("{}")
    (tmp_path / "recipe.yaml").write_text("seed: 0\nbase: {name: dollhouse}\n")
    assert cli.main(["train", str(tmp_path / "recipe.yaml")]) == 2
    assert f"lorasweep train --from {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "meant"),
    [("lr=1e-4", "`optimizer.lr`"), ("dim=8", "`adapter.dim`"), ("epochs=4", "`train.epochs`")],
)
def test_a_knob_without_its_group_is_answered_with_it(
    word: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", word]) == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_a_sweep_file_named_without_its_suffix_is_answered_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("v1.0.yaml").write_text("sweep: {question: q, arms: {a: {adapter.dim: 4}}}\n")
    assert cli.main(["plan", "v1.0"]) == 2
    assert "give its file: v1.0.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["audit", "caption", "fork"])
def test_what_may_be_left_out_is_not_said_to_be_required(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command])
    assert ended.value.code == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "are required" in line]
    assert said.endswith(("required: FOLDER", "required: SWEEP/TRIAL"))


def test_sweep_alone_lists_the_sweeps_with_their_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text("sweep: {question: 'How warm?', arms: {a: {adapter.dim: 4}}}\n")
    (tmp_path / "sweeps" / "theirs.yaml").write_text("program: another.py\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    assert cli.main(["sweep"]) == 2

    told = capsys.readouterr()
    rows = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in told.err.splitlines() if "│" in line}
    shipped = {
        path.stem: yaml.safe_load(path.read_text("utf-8"))["sweep"]["question"] for path in sweeps_dir().glob("*.yaml")
    }
    assert rows == {**shipped, "mine": "How warm?"}
    assert "must say which sweep  (lorasweep sweep quickstart" in told.err and not told.out


def test_words_of_one_call_are_not_those_of_the_next() -> None:
    assert cli._parse(["plan", "quickstart", "--json", "seed=1"]).overrides == ["quickstart", "seed=1"]
    assert cli._parse(["sweep", "quickstart", "--json", "seed=1"]).overrides == ["seed=1"]
    assert cli._parse(["sweep", "quickstart"]).overrides == []
