"""A device that this machine lacks is refused by name, not tried three times."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasweep import cli


def test_a_device_that_is_not_here_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "train=debug", "train.device=cuda:99", "tracking=none"]) == 2
    assert "INVALID  train.device  cuda:99 is not here" in capsys.readouterr().out
