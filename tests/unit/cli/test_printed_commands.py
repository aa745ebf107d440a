"""A command that is printed as the next step is one: typed as it stands, it works."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from clean_dataset import make_clean
from sweep_folders import Cooked, write_sweep

from lorasweep import api
from lorasweep.cli import main
from lorasweep.config import load_sweep
from lorasweep.core import printable
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
    said = capsys.readouterr().err
    command, file, *keys = typed(said)
    assert keys == ["dataset.path=...", "base.path=..."] and "still to be given: base.path (sd15 is not on" in said
    top = Path(file).read_text(encoding="utf-8").partition("Left out")[0].partition("Could not")[0]
    assert "#   dataset.path: no images are named: give" in top and "#   base.path: sd15 is not on this machine" in top
    assert command == "plan" and Path(file).is_file()
    assert main(["sweep", file]) == 2
    said = capsys.readouterr().err
    assert shlex.join(["lorasweep", "sweep", file]) in said and shlex.join(["lorasweep", "train", file]) in said


def test_what_is_on_this_machine_need_not_be_given(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_clean(home).rename(home / "images")
    Path("sd15.safetensors").touch()
    Path("d.toml").write_text('[[datasets]]\nresolution = 512\n[[datasets.subsets]]\nimage_dir = "images/10_zkw"\n')
    config = 'pretrained_model_name_or_path = "sd15.safetensors"\nnetwork_module = "networks.lora"\n'
    Path("a.toml").write_text(config + 'dataset_config = "d.toml"\n')
    assert main(["import", "a.toml"]) == 0
    said = capsys.readouterr()
    assert "to be given" not in (said.err + said.out).lower()


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


def windows_words(line: str) -> list[str]:
    """Split as Microsoft's C runtime does: backslashes mean something before a double quote only."""
    words, word, is_quoted = [], "", False
    for slashes, letter in re.findall(r"(\\*)(.?)", line):
        if letter == '"':
            word += slashes[: len(slashes) // 2] + '"' * (len(slashes) % 2)
            is_quoted ^= len(slashes) % 2 == 0
        elif letter == " " and not is_quoted:
            words.append(word + slashes)
            word = ""
        else:
            word += slashes + letter
    return [*words, word]


def test_on_windows_a_command_is_quoted_for_its_shells(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their quotes are double; commas and brackets part words in PowerShell, `&` in cmd."""
    monkeypatch.setattr(printable, "os", SimpleNamespace(name="nt"))
    trials = [Cooked(arm="a", overrides=["sample.seeds=[0,3]"]), Cooked(arm="b", identity=0.1)]
    folder = write_sweep(home / "outputs" / "two words", trials)
    assert main(["report", "two words"]) == 0
    page = html.unescape((folder / "report.html").read_text(encoding="utf-8"))
    for typed_there in (
        'lorasweep export "two words" --best',
        'lorasweep fork "two words/0000-a-s0" train.batch_size=2',
        'lorasweep train --from "two words/0000-a-s0"',
        'lorasweep report "two words"',
    ):
        assert typed_there in page and typed_there.replace('"', "'") not in page
    assert re.search(r'lorasweep train [^\n]*"sample\.seeds=\[0,3\]"', page), "commas and brackets too"

    given = ["a=[1,2]", "a&b", "it's", 'say "x"', "C:\\my, images\\", "a,b\\", "a\\b", "--out=~/x"]
    assert windows_words(printable.command(*given)) == given
    for word in given:
        typed_there = printable.command(word)
        assert not set(word) & set(" ,&[]();") or typed_there[0] == typed_there[-1] == '"'
