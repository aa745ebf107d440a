"""`lorasweep calibrate`: which controls are the same ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lorasweep.cli import main
from lorasweep.sweep import driver


def test_another_recipe_for_the_same_base_has_controls_of_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders: list[str] = []

    def interrupted(spec: Any, plans: Any, *, folder: Path, **_: Any) -> SimpleNamespace:
        folders.append(folder.name)
        return SimpleNamespace(interrupted=True, halted="")

    monkeypatch.setattr(driver, "run_sweep", interrupted)
    for words in (
        ["train.max_steps=8"],
        ["train.max_steps=8", "launcher.workers=1", "tracking=none"],
        ["train.max_steps=9"],
        ["train.max_steps=8", "--times=11"],
    ):
        assert main(["calibrate", *words]) == 130
    first, elsewhere, *others = folders
    assert first == elsewhere, "who cooks and where it is mirrored change nothing"
    assert len({first, *others}) == 3
    assert "will stay undercooked: try " in capsys.readouterr().err, "known before hours of cooking"
