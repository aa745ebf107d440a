"""What a first-time user types is answered with what to type instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasweep import cli


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["trian", "optimizer=prodigy"], "did you mean `train`?"),
        (["import_kohya", "config.toml"], "did you mean `import-kohya`?"),
        (["optimizer=prodigy"], "lorasweep train optimizer=prodigy"),
        (["FOLDER"], "lorasweep train dataset.path=FOLDER"),
        (["plan", "FOLDER"], "dataset.path=FOLDER"),
        (["train", "FOLDER"], "dataset.path=FOLDER"),
        (["sweep", "FOLDER"], "dataset.path=FOLDER"),
        (["plan", "quickstart", "FOLDER"], "dataset.path=FOLDER"),
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
