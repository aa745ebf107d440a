"""Numbers of options: what is none, or out of range, is refused with the rule, before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasweep.cli import main


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["ui", "--port=-1"], "whole number from 1 to 65535"),
        (["ui", "--port=70000"], "whole number from 1 to 65535"),
        (["calibrate", "--times=1.5"], "whole number >= 1, got '1.5'"),
        (["calibrate", "--seeds=0"], "whole number >= 1, got '0'"),
        (["export", "train/0", "--rank=x"], "whole number >= 1"),
        (["export", "train/0", "--step=-4"], "whole number >= 0"),
        (["dollhouse", "draw", "--seed=-1"], "whole number >= 0"),
        (["dollhouse", "dataset", "--out=x", "--repeats=0"], "whole number >= 1"),
        (["dollhouse", "dataset", "--out=x", "--outfits=-1"], "whole number >= 1"),
    ],
)
def test_a_number_out_of_range_is_refused(
    words: list[str], rule: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert rule in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["draw", "--size=²64x64"], "must be WxH px"),
        (["draw", "--size=99999x99999"], "must give a sheet of 100,000,000 px at most"),
        (["draw", "--count=99999999"], "must give a sheet of 100,000,000 px at most"),
        (["dataset", "--out=x", "--outfits=50"], "must be from 1 to 4"),
        (["dataset", "--out=x", "--images=1", "--outfits=2"], "must be at least one for each of 2 outfits, got 1"),
        (["dataset", "--out=x", "--confound=nan"], "must be in [0, 1], got nan"),
    ],
)
def test_a_world_that_cannot_be_drawn_is_refused(
    words: list[str],
    told: str,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["dollhouse", *words]) == 2
    assert told in capsys.readouterr().err
    assert not Path("x").exists() and not Path("dollhouse.png").exists()
