"""Policies written into caption files: shown first, never over yours unasked, undone to the byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clean_dataset import CONCEPT, make_clean

from lorasweep.cli import main

PRUNE = ("--apply", 'captions.prune=["beach","forest"]')


def captions(root: Path) -> dict[str, bytes]:
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*.txt")}


@pytest.fixture
def dataset(home: Path) -> Path:
    clean = make_clean(home)
    (clean / CONCEPT / "3.txt").write_bytes(b"\xef\xbb\xbfzkw, 1girl,\r\nbeach, hat\r\n")
    (clean / CONCEPT / "4.txt").rename(clean / CONCEPT / ".txt")  # hidden, and no image's
    return clean


def test_it_only_shows_unless_told(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = captions(dataset)
    assert main(["caption", str(dataset), *PRUNE]) == 0
    assert captions(dataset) == before
    assert "+ zkw, 1girl, hat" in capsys.readouterr().out


def test_a_new_folder_has_all_of_them(dataset: Path, home: Path) -> None:
    before, out = captions(dataset), home / "pruned"
    assert main(["caption", str(dataset), *PRUNE, "--out", str(out)]) == 0
    assert captions(dataset) == before
    assert captions(out)[f"{CONCEPT}/3.txt"] == b"zkw, 1girl, hat"
    assert len(captions(out)) == 12
    assert main(["caption", str(dataset), *PRUNE, "--out", str(out)]) == 2


def test_write_keeps_what_is_there_and_undo_takes_back(dataset: Path) -> None:
    before = captions(dataset)
    assert main(["caption", str(dataset), *PRUNE, "--write"]) == 0
    assert captions(dataset) == {**before, f"{CONCEPT}/4.txt": b"zkw"}
    assert main(["caption", str(dataset), *PRUNE, "--write", "--overwrite"]) == 0
    assert captions(dataset)[f"{CONCEPT}/3.txt"] == b"zkw, 1girl, hat"
    assert main(["caption", str(dataset), "--undo"]) == 0
    assert main(["caption", str(dataset), "--undo"]) == 0
    assert captions(dataset) == before
    assert main(["caption", str(dataset), "--undo"]) == 2


@pytest.mark.parametrize(
    "journal",
    [
        "",
        "[]",
        '{"10_zkw/3.txt": 1}',
        '{"10_zkw/3.txt": [3, null]}',
        '{"../stolen.txt": ["aGk=", null]}',
        '{"ABOVE/stolen.txt": ["aGk=", null]}',
    ],
)
def test_a_journal_that_is_none_of_ours_writes_nothing(
    journal: str, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, folder = captions(dataset), dataset / ".lorasweep-captions"
    folder.mkdir()
    (folder / "0001.json").write_text(journal.replace("ABOVE", str(dataset.parent)))
    (folder / "0001 copy.json").write_text("a file manager's")
    assert main(["caption", str(dataset), "--undo"]) == 2
    assert "0001.json  is not as lorasweep wrote it" in capsys.readouterr().err
    assert captions(dataset) == before and not (dataset.parent / "stolen.txt").exists()


def test_a_line_that_ends_is_no_change(dataset: Path) -> None:
    for number in (5, 6):
        with open(dataset / CONCEPT / f"{number}.txt", "ab") as file:
            file.write(b"\r\n")
    before = captions(dataset)
    assert main(["caption", str(dataset), "--apply", "--write", "--overwrite"]) == 0
    after = captions(dataset)
    assert {name for name in after if after[name] != before.get(name)} == {f"{CONCEPT}/{n}.txt" for n in (3, 4)}


def test_undo_leaves_what_was_edited_since(dataset: Path) -> None:
    assert main(["caption", str(dataset), *PRUNE, "--write", "--overwrite"]) == 0
    (dataset / CONCEPT / "5.txt").write_text("mine")
    now = captions(dataset)
    assert main(["caption", str(dataset), "--undo"]) == 2
    assert captions(dataset) == now


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("written", [0, 1, 5])
def test_killed_in_the_midst_every_file_is_old_or_new_and_can_be_undone(dataset: Path, written: int) -> None:
    before = captions(dataset)
    code = (
        "import sys, time\n"
        "from lorasweep.cli import main\n"
        "from lorasweep.data import caption_writing as writing\n"
        "put, left = writing._put, [int(sys.argv[2])]\n"
        "def slow(path, content):\n"
        "    if not left[0]: print('here', flush=True); time.sleep(60)\n"
        "    left[0] -= 1; put(path, content)\n"
        "writing._put = slow\n"
        "main(['caption', sys.argv[1], *sys.argv[3:]])\n"
    )
    words = [str(dataset), str(written), *PRUNE, "--write", "--overwrite"]
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + 60
        while "here" not in process.stdout.readline() and time.monotonic() < deadline:
            pass
        process.send_signal(signal.SIGKILL)

    changed = [name for name, content in captions(dataset).items() if content != before.get(name)]
    assert len(changed) == written
    assert main(["caption", str(dataset), "--undo"]) == 0
    assert captions(dataset) == before


@pytest.mark.parametrize(
    "words",
    [[], ["--apply", "--overwrite"], ["--apply", "--write", "--undo"], ["--apply", "--encoding", "klingon"]],
    ids=" ".join,
)
def test_options_that_say_nothing_or_two_things_are_refused(dataset: Path, words: list[str]) -> None:
    before = captions(dataset)
    assert main(["caption", str(dataset), *words]) == 2
    assert captions(dataset) == before
