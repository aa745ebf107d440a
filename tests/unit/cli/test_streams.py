"""Whatever the console is, and whoever stops reading: words come out as far as they can, and work goes on."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import clean_dataset
import pytest
from ready_processes import run_module
from sweep_folders import Cooked, write_sweep

from lorasweep.cli import main
from lorasweep.core import streams
from lorasweep.core.console import text_console

EVIL = "x\x1b[31my\x9b2J\u202ez\x07"


@pytest.fixture
def photos(home: Path) -> Path:
    """Five photos with a name and captions that few consoles can show."""
    return clean_dataset.photos(home, "10_ひめ", caption="ひめ, hat ♥, tag{}")


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "lorasweep", *words],
        capture_output=True,
        env=os.environ | {"PYTHONUTF8": "0", "COLUMNS": "120"} | environment,
        timeout=120,
    )


def run_ready(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The same in a process that has imported."""
    return run_module("lorasweep", *words, environment={"PYTHONUTF8": "0", "COLUMNS": "120"} | environment)


COMMANDS = (
    ["plan", "dataset.path={photos}"],
    ["plan", "--captions", "dataset.path={photos}"],
    ["status"],
    ["status", "mine"],
    ["report", "mine"],
    ["doctor", "--no-cook"],
    ["--help"],
    ["plan", "dataset.path=/ひめ"],
    ["ひめ"],
    ["plan", "--♥"],
    ["--cfg", "job", "captions.trigger='ひめ'"],
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_console_shows_a_stand_in_for_what_it_lacks(home: Path, photos: Path, words: list[str]) -> None:
    write_sweep(home / "outputs" / "mine", [Cooked(arm="a", note="ひめ → ♥")], question="which ♥?")
    first = words == list(COMMANDS[0])
    for encoding in ("cp1252", "ascii") if first else ("cp1252",):
        done = (run if first else run_ready)(*(word.format(photos=photos) for word in words), PYTHONIOENCODING=encoding)
        said = done.stdout + done.stderr

        assert done.returncode in (0, 2)
        assert b"UnicodeEncodeError" not in said and b"Traceback" not in said
        assert said.decode(encoding)


def test_names_that_are_no_utf8_are_printed(home: Path) -> None:
    done = run("plan", os.fsdecode(b"dataset.path=/caf\xe9"), PYTHONIOENCODING="utf-8")

    assert done.returncode == 2 and b"/caf?" in done.stderr


def test_a_reader_that_goes_away_is_no_failure(home: Path) -> None:
    lorasweep = f"{sys.executable} -m lorasweep"
    for words in ("plan quickstart", "plan quickstart --json", "--help"):
        code = f"set -o pipefail; {lorasweep} {words} | true"
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_failure(home: Path, closed: str) -> None:
    code = f"{sys.executable} -m lorasweep plan adapter.dim=4 {closed}"
    assert subprocess.run(["bash", "-c", code], capture_output=True, timeout=120).returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_output_that_is_lost_to_a_full_disk_is_a_failure(home: Path) -> None:
    code = f"{sys.executable} -m lorasweep plan adapter.dim=4 --json > /dev/full"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=120)

    assert done.returncode == 1 and "No space left" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_sweep_cooks_on_when_nobody_reads(home: Path) -> None:
    cheap = "train.max_steps: 4, train.rungs: 1, launcher.workers: 1, tracking: none, metrics: [norms], "
    cheap += "sample.steps: 1, sample.weights: [0.7], sample.seeds: [0], dataset.prompts.class: []"
    arms = "{a: {adapter.dim: 4}, b: {adapter.dim: 8}}"
    metric = "{name: norms/relative, goal: minimize}"
    text = f"sweep:\n  question: which?\n  metric: {metric}\n  recipe: {{{cheap}}}\n  arms: {arms}\n"
    (home / "s.yaml").write_text(text)

    code = f"set -o pipefail; {sys.executable} -m lorasweep sweep {home}/s.yaml | head -1"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=300)

    states = [json.loads(file.read_text())["status"] for file in home.glob("outputs/s/*/status.json")]
    assert done.returncode == 0 and states == ["COMPLETED", "COMPLETED"]


def on_a_terminal(words: list[str]) -> bytes:
    """What a terminal gets of a command."""
    parent, child = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "lorasweep", *words], stdout=child, stderr=child)
    os.close(child)
    said = b""
    try:
        while chunk := os.read(parent, 65536):
            said += chunk
    except OSError:
        pass  # Linux's way to say that nobody writes any more
    os.close(parent)
    process.wait(timeout=60)
    return said


def test_control_characters_of_a_strangers_folder_do_nothing_on_a_terminal(home: Path) -> None:
    trials = [
        Cooked(arm="a", note=EVIL, verdict={"sentence": EVIL, "state": EVIL, "unmeasured": {EVIL: EVIL}}),
        Cooked(arm="b", status="CRASHED", reason=EVIL),
    ]
    write_sweep(home / "outputs" / "mine", trials, question=EVIL)

    said = on_a_terminal(["status", "mine"]).decode()

    assert "x�[31my�2J�z�" in said
    assert "\x1b[31my" not in said and "\x9b" not in said and "\u202e" not in said and "\x07" not in said


def test_what_is_printed_or_shown_by_rich_is_made_visible(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    streams.make_safe()
    print(EVIL, "a\tb")
    print(EVIL, file=sys.stderr)
    table = Table(EVIL)
    table.add_row(f"{EVIL}[bold] :cat:")
    text_console().print(table)

    out, err = capsys.readouterr()
    assert "x�[31my�2J�z� a\tb\n" in out and err == "x�[31my�2J�z�\n"
    assert not set("\x1b\x9b\u202e\x07") & set(out) and "[bold] :cat:" in out


def test_colours_of_our_own_reach_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", streams.SafeStream(stream))
    monkeypatch.setenv("FORCE_COLOR", "1")
    from rich.text import Text

    text_console().print(Text(f"red{EVIL}", style="red"))

    assert stream.getvalue().startswith("\x1b[31mredx�[31m")


def test_errors_and_arguments_with_escapes_do_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["plan", "--x\x1b[31m"],
        ["pl\x1b[31man"],
        ["status", "a\x1b]0;b\x07"],
        ["plan", "a.\x1b[2Jb=1"],
    ):
        assert main(words) == 2
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and "�[31m" in err


def test_a_recipe_that_is_printed_with_stand_ins_says_so(home: Path) -> None:
    (home / "images" / "10_x").mkdir(parents=True)
    text = f'train_data_dir = "{home}/images"\noutput_name = "ひめ"\nwandb_run_name = "ひめ"\n'
    (home / "a.toml").write_text(text, encoding="utf-8")
    for encoding, warned in (("cp1252", True), ("utf-8", False)):
        done = run_ready("import", str(home / "a.toml"), PYTHONIOENCODING=encoding)
        assert done.returncode == 0
        assert (b"with stand-ins: -o FILE" in done.stderr) == warned
