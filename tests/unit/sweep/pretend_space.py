"""A space for the pretend trial, and a driver of it to kill: `python pretend_space.py FOLDER TOTAL STEP_S`.

Spawned workers import this file again, so it cooks nothing until it is the program.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lorasweep.config.space import Axis, Choice, Condition, Interval, Space

LOW, HIGH = (Condition("branch", (name,)) for name in ("low", "high"))
SPACE = Space(
    axes=(
        Axis("branch", Choice(("low", "high"))),
        Axis("value", Interval(0.0, 0.5), (LOW,)),
        Axis("value", Interval(0.5, 1.0), (HIGH,)),
    )
)


def slowed(step_s: float) -> Space:
    """The same space, each step taking so long."""
    return Space(axes=(*SPACE.axes, Axis("step_s", Choice((step_s, step_s + 1e-6)))))


def sweep(folder: Path, *, total: int, space: Space = SPACE, **more: Any) -> Any:
    """Cook a search with the pretend trial."""
    from pretend_sweep import cook, space_spec

    # Other tests' sweeps lie beside this one: their results are not to be taken.
    driving = {"fresh": True} | {key: more.pop(key) for key in ("extend", "on_trial_end") if key in more}
    return cook(space_spec(space, total=total, **more), folder, **driving)


if __name__ == "__main__":
    folder, total, step_s = sys.argv[1:4]
    sys.exit(sweep(Path(folder), total=int(total), space=slowed(float(step_s)), workers=2).exit_code)
