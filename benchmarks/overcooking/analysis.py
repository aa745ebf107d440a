"""Ask the judged checkpoints every question of the proof; the answers are plain JSON. Imports no torch.

Every section copes with a grid that is only partly trained and says what it was computed from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.overcooking import areas, following, stopping
from benchmarks.overcooking.table import Checkpoint, by_run


def analyse(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Answer everything that these checkpoints, one or more, can answer."""
    return {
        "coverage": coverage(checkpoints),
        "auroc": areas.aurocs(checkpoints),
        "auroc_clear": areas.clear_aurocs(checkpoints),
        "follow": following.follow(checkpoints),
        "stopping": stopping.stopping(checkpoints),
        "stopping_settled": stopping.stopping([c for c in checkpoints if not c.had_a_say]),
        "verdicts_agree": stopping.verdicts_agree(checkpoints),
        "ablation": areas.ablation(checkpoints),
        "transfer": areas.transfer(checkpoints),
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
    }
