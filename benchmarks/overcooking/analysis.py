"""Ask the judged checkpoints every question of the proof; the answers are plain JSON. Imports no torch.

Every section copes with a grid that is only partly trained and says what it was computed from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.overcooking import areas, controls, stopping
from benchmarks.overcooking.table import Checkpoint, by_run


def analyse(
    checkpoints: Sequence[Checkpoint], *, of_controls: Sequence[Checkpoint] = (), copying: Sequence[Checkpoint] = ()
) -> dict[str, Any]:
    """Answer everything that these checkpoints of the grid, one or more, and of the runs beside it can answer."""
    return {
        "coverage": coverage(checkpoints),
        **areas.areas(checkpoints),
        "follow": areas.follow(checkpoints),
        "stopping": stopping.stopping(checkpoints),
        "stopping_settled": stopping.stopping([c for c in checkpoints if not c.had_a_say]),
        "verdicts_agree": stopping.verdicts_agree(checkpoints),
        "ordering": stopping.ordering(checkpoints),
        "controls": controls.judged(of_controls),
        "copying": controls.copied(copying),
    }


def coverage(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Count what there is, and which symptoms make checkpoints overcooked."""
    runs = by_run(checkpoints)
    blamed = Counter(name for c in checkpoints for name, excess in c.truth.excess.items() if excess > 1.0)
    return {
        "runs": len(runs),
        "ended": sum(rungs[0].ended for rungs in runs.values()),
        "checkpoints": len(checkpoints),
        "overcooked": sum(c.truth.overcooked for c in checkpoints),
        "recipes": len({c.recipe for c in checkpoints}),
        "identities": dict(Counter(rungs[0].identity for rungs in runs.values())),
        "seeds": {str(seed): n for seed, n in sorted(Counter(r[0].seed for r in runs.values()).items())},
        "blamed": {name: blamed[name] for name in checkpoints[0].truth.excess},
        "limits": {"name": checkpoints[0].limits.name, "digest": checkpoints[0].limits.digest},
    }
