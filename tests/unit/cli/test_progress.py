"""A run shows that it lives: on a terminal, and in the log of somebody who redirected it."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from lorasweep.core import progress

EVENTS: tuple[dict[str, Any], ...] = (
    {"kind": "step", "step": 10, "metrics": {"train/loss": 0.25}},
    {"kind": "samples", "step": 15},
    {"kind": "rung", "step": 15, "metrics": {"overcook/score": 0.1, "overcook/utility": 0.45}},
    {"kind": "step", "step": 20, "metrics": {}, "warning": "[red]the loss is odd"},
)


def told(*, terminal: bool, quiet: bool = False) -> str:
    stream = io.StringIO()
    with progress.shown(60, quiet=quiet, console=Console(file=stream, force_terminal=terminal, width=100)) as say:
        assert all(say(event) for event in EVENTS)
    return stream.getvalue()


def test_a_log_gets_a_line_at_every_judged_step_and_every_warning() -> None:
    assert told(terminal=False).splitlines() == [
        "15/60 steps  overcook 0.100  utility 0.450",
        "warning  [red]the loss is odd",
    ]


def test_a_terminal_gets_a_bar() -> None:
    assert "20/60" in told(terminal=True) and "cooking" in told(terminal=True)


def test_quiet_is_quiet() -> None:
    assert told(terminal=True, quiet=True) == ""
