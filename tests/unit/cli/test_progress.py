"""A run shows that it lives: on a terminal, and in the log of somebody who redirected it."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from lorasweep.core import progress

EVENTS: tuple[dict[str, Any], ...] = (
    {"kind": "step", "step": 10, "metrics": {"train/loss": 0.25}},
    {"kind": "samples", "step": 15},
    {"kind": "rung", "step": 15, "metrics": {"overcook/score": 0.1, "overcook/utility": 0.45}},
    {"kind": "step", "step": 20, "metrics": {}, "warning": "[red]the loss is odd\x1b[2J"},
    {"kind": "samples", "step": 15},
)


class Stream(io.StringIO):
    """Standard error, of a terminal or not."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def told(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    stream = Stream(terminal=terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.recipe_shown(60) as say:
        assert all(say(event) for event in EVENTS)
    return stream.getvalue()


def test_a_log_gets_a_line_at_every_judged_step_and_every_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, terminal=False).splitlines() == [
        "15/60 steps  overcook 0.100  utility 0.450",
        "warning  [red]the loss is odd\N{REPLACEMENT CHARACTER}[2J",
    ]


def test_a_terminal_gets_a_bar_that_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = told(monkeypatch, terminal=True)
    assert "cooking:  33%" in bar and "20/60" in bar.rpartition("cooking")[2]
    assert "odd\N{REPLACEMENT CHARACTER}[2J" in bar and "\x1b[2J" not in bar


def test_a_sweep_in_a_log_gets_a_line_for_every_trial_that_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Stream(terminal=False)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.sweep_shown(2) as say:
        for done in (0, 0, 1, 1, 2):
            say(done, 2, "")
    assert stream.getvalue().splitlines() == ["0/2 trials", "1/2 trials", "2/2 trials"]
