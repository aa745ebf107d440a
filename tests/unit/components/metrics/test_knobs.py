"""Knobs of metrics: what cannot be measured with is refused by `plan`, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorasweep.cli import main

USEFUL = "metrics=[useful_weight]"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["metrics.burn.min_reference=0"], "metrics.burn.min_reference  must be >= 2"),
        (["metrics.memorisation.chance=2"], "metrics.memorisation.chance  must be in (0, 0.5], got 2"),
        (["metrics.memorisation.tiers=[]"], "metrics.memorisation.tiers  must name a prompt tier"),
        (["metrics.identity.tiers=[]"], "metrics.identity.tiers  must name a prompt tier"),
        (["metrics.diversity.tiers=[]"], "metrics.diversity.tiers  must name a prompt tier"),
        (["metrics.generalisation.weights=[-1]"], "metrics.generalisation.weights  must be in [0.01, 2]"),
        (["metrics.prior_drift.weights=[3]"], "metrics.prior_drift.weights  must be in [0.01, 2], got [3"),
        (["metrics.prompt_control.min_base_accuracy=0"], "min_base_accuracy  must be in (0, 1], got 0"),
        (
            ["metrics=[trigger_selectivity]", "metrics.trigger_selectivity.min_gain=0"],
            "metrics.trigger_selectivity.min_gain  must be > 0",
        ),
        ([USEFUL, "metrics.useful_weight.weights=[0.7]"], "needs a weight besides 0 and sample.weight, 0.7"),
        ([USEFUL, "metrics.useful_weight.weights=[0,1.0]", "sample.weight=1"], "needs a weight besides 0"),
        (["metrics.identity.encoder=dino"], "asks for dino, and encoders.dino is null"),
        (["metrics.prompt_control.also=[base,clip]"], "metrics.prompt_control.also  asks for clip"),
    ],
)
def test_a_knob_that_measures_nothing_is_refused(
    words: list[str], told: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *words]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "is not a calibration"),
        ('"x"', "is not a calibration"),
        ("\x00", "is not a calibration"),
        ('{"name": "x", "limits": {}}', "is not a calibration"),
        ('{"name": "x", "holds_for": {}, "limits": {"rise": {"limit": 0, "width": 1}}}', "no number > 0"),
        ('{"name": "x", "holds_for": {}, "limits": {"rise": {"limit": 1e999, "width": 1}}}', "no number > 0"),
        (
            '{"name": "x", "holds_for": {}, "limits": {"rise": {"limit": "a", "width": 1}}}',
            "is not a calibration",
        ),
        ('{"name": "x", "holds_for": {}, "limits": {"z": {"limit": 1, "width": 1}}}', "unknown symptoms: z"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "train"])
def test_a_calibration_that_is_none_is_refused_before_any_work(
    command: str, text: str, told: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.json"
    file.write_text(text, encoding="utf-8")
    assert main([command, f"calibration={file}"]) == 2
    assert told in capsys.readouterr().err
    assert not (home / "outputs").exists()
