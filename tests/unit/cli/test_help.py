"""`--help`: what it says below the options has room in a terminal of eighty columns."""

from __future__ import annotations

import itertools

import pytest

from lorasweep.cli import main
from lorasweep.cli.commands import COMMANDS


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)], ids=lambda words: "".join(words) or "lorasweep")
def test_no_line_is_wider_than_the_terminal_but_a_command_to_copy(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {}
    for columns in (80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        told[columns] = capsys.readouterr().out
    lines = told[80].partition("\n\n")[2].splitlines()  # the usage is argparse's
    assert [line for line in lines if len(line) > 80 and not line.startswith(("  lorasweep ", "  eval "))] == []
    assert {*told[200].split(), "|"} == {*told[80].split(), "|"}, "nothing is lost"
    torn = [
        (line, after)
        for line, after in itertools.pairwise(lines)
        if line[:1].strip()
        and after[:1].islower()
        and not after.startswith(("results:", "exit codes:"))
        and not line.endswith((".", ":"))
        and len(f"{line} {after.split()[0]}") <= 78
    ]
    assert torn == [], "a paragraph is folded once"
