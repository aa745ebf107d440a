"""Runs that copy: few images, many exposures. The grid's own runs burn or bleed long before they copy.

Their datasets are folders, so that the prompts in distribution are training captions, as they are for
anybody's own images: a copy shows where its caption is asked for. (The drawn dataset brings prompts of its
own, which no image was trained under.) Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.overcooking import scores
from benchmarks.overcooking.grid import CENTRE, Run, Scale, on_folder, run_name
from benchmarks.overcooking.statistics import auroc, rows_by_run, spearman
from benchmarks.overcooking.table import COPYING, Checkpoint
from lorasweep.dollhouse import world

SCALE: Final = Scale(steps=640, rungs=5)
DIALS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("zkw", {"images": 4, "lr": 4e-3, "dim": 16}),
    ("vqx", {"images": 4, "lr": 2e-3, "dim": 64}),
    ("ohru", {"images": 6, "lr": 4e-3, "dim": 64}),
    ("mona taco", {"images": 6, "lr": 2e-3, "dim": 64}),
)
METRICS: Final = (
    ("memorisation/copy_rate", 1),
    ("memorisation/tile_max", 1),
    ("memorisation/nearness", 1),
    ("memorisation/magnitude_ratio", 1),
    ("generalisation/gap", 1),
    ("generalisation/train", -1),
)
"""Those that might see copies, and which way."""


def runs(home: Path) -> list[Run]:
    """Draw the datasets that are not there yet; return the runs."""
    return [_run(home / "datasets", identity, CENTRE | {"confound": 1.0} | own) for identity, own in DIALS]


def _run(datasets: Path, identity: str, dials: dict[str, Any]) -> Run:
    def draw(folder: Path) -> None:
        world.write_dataset(folder, identity, images=dials["images"], confound=dials["confound"], seed=2)

    name = f"{COPYING}{dials['images']}-images"
    return on_folder(name, datasets / run_name(name, identity, 0), draw, identity, dials, scale=SCALE)


def copied(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Whether the metrics that might see copies do, and O by the shipped limits.

    Returns:
        `runs`, `checkpoints`, `copying` (past the limit of true copies), and by metric `within` (median rank
        correlation within a run with the true share of copies) and `area` for checkpoints that copy.
    """
    runs, truth = [c.run for c in checkpoints], np.array([c.truth.excess["copies"] for c in checkpoints])
    asked = {key: [sign * c.metrics.get(key, nan) for c in checkpoints] for key, sign in METRICS}
    asked["O as shipped"] = [scores.overcook(c.metrics) for c in checkpoints]
    return {
        "runs": len(set(runs)),
        "checkpoints": len(checkpoints),
        "copying": int((truth > 1).sum()),
        "metrics": {key: _against_truth(runs, truth, np.array(values)) for key, values in asked.items()},
    }


def _against_truth(runs: Sequence[str], truth_N: np.ndarray, values_N: np.ndarray) -> dict[str, float]:
    known = np.isfinite(values_N)
    truth_N, values_N = truth_N[known], values_N[known]
    groups = rows_by_run([run for run, is_known in zip(runs, known, strict=True) if is_known])
    within = np.array([spearman(values_N[rows], truth_N[rows]) for rows in groups.values()])
    varied = within[np.isfinite(within)]
    return {"within": float(np.median(varied)) if len(varied) else nan, "area": auroc(values_N, truth_N > 1)}
