"""Captions by a tagger on the command line: shown, written, undone, and gone on with; the story that the docs tell."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tiny_taggers import make_blip

from lorasweep.cli import main
from lorasweep.components.taggers.dollhouse import DollTagger
from lorasweep.config import conf_dir
from lorasweep.dollhouse import world

TAGGER = ("tagger=dollhouse", "captions.trigger=zkw")
STORY = (conf_dir().parent / "docs" / "dataset.md").read_text(encoding="utf-8").split("## Taggers")[0]


@pytest.fixture
def dolls(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images without a caption; the folder of the story."""
    monkeypatch.chdir(home)
    world.write_dataset(home / "dolls", images=12)
    for file in (home / "dolls").rglob("*.txt"):
        file.unlink()
    return home / "dolls"


def texts(root: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in root.rglob("*.txt")}


def test_tags_are_those_that_were_drawn_and_stay_where_captions_are(dolls: Path) -> None:
    mine = dolls / "10_zkw" / "0003.txt"
    mine.write_text("mine")
    assert main(["caption", str(dolls), *TAGGER]) == 0
    assert texts(dolls) == {"0003.txt": "mine"}
    assert main(["caption", str(dolls), *TAGGER, "--write"]) == 0
    written = texts(dolls)
    assert len(written) == 12 and written["0003.txt"] == "mine"
    truth = json.loads((dolls / "world.json").read_text())["images"]
    hits = 0
    for name, spec in truth.items():
        said = written[Path(name).with_suffix(".txt").name].split(", ")
        wanted = world.tags(world.Spec.from_dict(spec))
        hits += set(said) == {"zkw", *wanted} and said[0] == "zkw"
    assert hits >= 9
    assert main(["caption", str(dolls), "--undo"]) == 0
    assert texts(dolls) == {"0003.txt": "mine"}


def test_it_goes_on_where_it_was_stopped_and_another_threshold_costs_nothing(
    dolls: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks: list[int] = []
    tag = DollTagger.tag

    def counted(self: DollTagger, pictures: Any) -> Any:
        looks.append(len(pictures))
        if len(looks) == 2:
            raise KeyboardInterrupt
        return tag(self, pictures)

    monkeypatch.setattr(DollTagger, "tag", counted)
    words = ["caption", str(dolls), *TAGGER, "tagger.batch_size=5", "--json"]
    assert main(words) == 130
    assert main(words) == 0
    assert looks == [5, 5, 5, 2]
    capsys.readouterr()
    assert main([*words, "tagger.threshold=1"]) == 0
    assert looks == [5, 5, 5, 2]
    captions = [change["after"] for change in json.loads(capsys.readouterr().out)["changes"]]
    assert captions == ["zkw"] * 12


def test_a_captioner_writes_sentences(dolls: Path, home: Path) -> None:
    words = [
        "tagger=captioner",
        f"tagger.path={make_blip(home / 'blip')}",
        "tagger.max_tokens=5",
        "captions.trigger=zkw",
    ]
    assert main(["caption", str(dolls), *words, "--out", "sentences"]) == 0
    written = texts(home / "sentences")
    assert len(written) == 12 and all(text.startswith("zkw") for text in written.values())


@pytest.mark.parametrize("words", [["tagger=wd14"], ["tagger.threshold=0.3"], [*TAGGER, "captions.decouple=0.5"]])
def test_what_cannot_be_is_refused(dolls: Path, words: list[str]) -> None:
    assert main(["caption", str(dolls), *words, "--write"]) == 2
    assert texts(dolls) == {}


def follow_the_story(dolls: Path) -> list[list[str]]:
    """Write its sweep, and give back its commands."""
    commands, sweep = (re.search(rf"```{kind}\n(.*?)```", STORY, re.DOTALL) for kind in ("sh", "yaml"))
    assert commands and sweep
    (dolls.parent / "dolls.yaml").write_text(sweep[1])
    return [shlex.split(line.split("#")[0])[1:] for line in commands[1].splitlines()]


def test_the_story_of_the_docs_up_to_its_sweep(dolls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    *before, last = follow_the_story(dolls)
    assert [words[0] for words in before] == ["caption", "caption", "audit", "plan", "plan"] and last[0] == "sweep"
    for words in before:
        assert main(words) == 0, words
    said = capsys.readouterr().out
    assert "zkw, 1girl" in said and "the subject's own" in said and "absorbed" in said


@pytest.mark.slow
def test_the_story_of_the_docs_to_its_end(dolls: Path) -> None:
    """`pytest -m slow tests/unit/cli/test_tagging.py`: two short trainings, a minute."""
    *_, write, _, _, _, sweep = follow_the_story(dolls)
    assert main(write) == 0
    assert main([*sweep, "train.max_steps=12", "train.rungs=1", "tracking=none"]) == 0
