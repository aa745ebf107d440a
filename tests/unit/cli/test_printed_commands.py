"""A command that is printed as the next step is one: typed as it stands, it works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from clean_dataset import make_clean

from lorasweep import api
from lorasweep.cli import main
from lorasweep.config import load_sweep
from lorasweep.core.errors import ConfigError
from lorasweep.sweep.manifest import command_of, declare, read_manifest, write_manifest


@pytest.fixture(autouse=True)
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def typed(said: str) -> list[str]:
    """The words of the last command in what was said, as a shell splits them."""
    return shlex.split(re.findall("lorasweep ([a-z]+ [^\n]*)", said)[-1])


def test_captions_are_undone_in_a_folder_whose_name_has_spaces(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_clean(home).rename(home / "my own images")
    before = {file: file.read_bytes() for file in root.rglob("*.txt")}
    assert (
        main(["caption", str(root), "--apply", "captions=cleaned", "captions.prune=[beach]", "--write", "--overwrite"])
        == 0
    )
    assert any(file.read_bytes() != text for file, text in before.items())
    assert main(typed(capsys.readouterr().out)) == 0
    assert {file: file.read_bytes() for file in root.rglob("*.txt")} == before


def test_a_dataset_that_was_written_is_trained_on(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dollhouse", "dataset", "--out", "my dolls", "--images", "4"]) == 0
    command, *words = typed(capsys.readouterr().out)
    assert (command, main(["plan", *words])) == ("train", 0)


def test_a_folder_that_is_named_alone_is_planned_by_the_advice(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_clean(home).rename(home / "my own images")
    assert main(["plan", "adapter.dim=4", "my own images"]) == 2
    (advice,) = re.findall(r"for its images: ([^\n]*)\)", capsys.readouterr().err)
    assert main(["plan", *shlex.split(advice)]) == 0


def test_an_imported_recipe_is_planned(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_clean(home)
    Path("a.toml").write_text('pretrained_model_name_or_path = "sd15"\nnetwork_module = "networks.lora"\n')
    assert main(["import", "a.toml", "-o", "my recipe.yaml"]) == 0
    command, file, *_ = typed(capsys.readouterr().err)
    assert command == "plan" and Path(file).is_file()
    assert main(["sweep", file]) == 2
    said = capsys.readouterr().err
    assert shlex.join(["lorasweep", "sweep", file]) in said and shlex.join(["lorasweep", "train", file]) in said


@pytest.mark.parametrize("words", [["question.yaml", "adapter.dim=4"], ["question.yaml"], ["adapter.dim=4,8"]])
def test_a_sweep_goes_on_as_it_is_told(home: Path, words: list[str]) -> None:
    """A file that also lies in `sweeps/`, so that the name alone finds it, without what was typed beside it."""
    arms = {"a": {"optimizer.lr": 2e-3}, "b": {"optimizer.lr": 1e-3}}
    Path("sweeps").mkdir()
    for file in (Path("question.yaml"), Path("sweeps/question.yaml")):
        file.write_text(yaml.safe_dump({"sweep": {"question": "?", "arms": arms}}))
    spec = load_sweep(words[0], words[1:])
    plans = api.plan(spec).plans
    folder = home / "outputs" / spec.name
    folder.mkdir(parents=True)
    write_manifest(folder, before := declare(spec, plans))
    told = shlex.split(command_of(before.name, before.typed))[2:]
    again = load_sweep(told[0], told[1:])
    assert [arm.recipe for arm in again.arms] == [arm.recipe for arm in spec.arms]
    known = read_manifest(folder)
    declare(again, plans, previous=known, cooked=frozenset((arm.name, 0) for arm in spec.arms))
    if len(words) > 1:
        other = load_sweep("question")
        with pytest.raises(ConfigError, match="was 4 when cooked"):
            declare(other, api.plan(other).plans, previous=known, cooked=frozenset({("a", 0)}))
