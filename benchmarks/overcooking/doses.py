"""Dose and response: does more of what overcooks give more of O, and more of the truth? Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.overcooking import scores
from benchmarks.overcooking.grid import CENTRE
from benchmarks.overcooking.table import Checkpoint, by_run


def doses(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Mean O, harm and identity by step over all runs, and by each dial where runs of that dial end.

    Only runs that differ from the centre in that one dial are counted; a run that blew up stands with its
    last judged checkpoint.
    """
    last = [rungs[-1] for rungs in by_run(checkpoints).values() if rungs[0].ended]
    found: dict[str, Any] = {"step": _by([(c.step, c) for c in checkpoints])}
    for dial in CENTRE:
        chosen = [c for c in last if c.turned == dial or c.recipe == "centre"]
        found[dial] = _by([(c.dials[dial], c) for c in chosen])
    return found


def _by(pairs: Sequence[tuple[Any, Checkpoint]]) -> dict[str, Any]:
    """Means by the first of each pair, ascending."""
    values = sorted({value for value, _ in pairs}, key=lambda value: (isinstance(value, str), value))
    return {str(value): _means([c for other, c in pairs if other == value]) for value in values}


def _means(checkpoints: Sequence[Checkpoint]) -> dict[str, float]:
    scored = np.array([scores.overcook(c.metrics) for c in checkpoints])
    return {
        "checkpoints": len(checkpoints),
        "O": float(np.nanmean(scored)) if np.isfinite(scored).any() else float("nan"),
        "harm": float(np.mean([c.truth.harm for c in checkpoints])),
        "identity": float(np.mean([c.truth.identity for c in checkpoints])),
        **{name: float(np.mean([c.truth.excess[name] for c in checkpoints])) for name in checkpoints[0].truth.excess},
    }
