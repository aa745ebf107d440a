"""Runs that copy: few images, many exposures. The grid's own runs burn or bleed long before they copy.

Their datasets are folders, so that the prompts in distribution are training captions, as they are for
anybody's own images: a copy shows where its caption is asked for. (The drawn dataset brings prompts of its
own, which no image was trained under.) Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.overcooking import scores
from benchmarks.overcooking.grid import CENTRE, Recipe, Run, Scale, overrides
from benchmarks.overcooking.statistics import auroc, spearman
from benchmarks.overcooking.table import COPYING, Checkpoint, by_run
from lorasweep import files
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
    name = f"{COPYING}{dials['images']}-images"
    run = f"{name}_{identity.replace(' ', '-')}_s0"
    folder = datasets / run
    if not folder.exists():
        files.write_folder(
            folder,
            lambda draft: world.write_dataset(
                draft, identity, images=dials["images"], confound=dials["confound"], seed=2
            ),
        )
    own = ["dataset=folder", f"dataset.path='{folder}'", *overrides(dials, seed=0, scale=SCALE)]
    recipe = Recipe(name=name, dials=dials)
    return Run(name=run, recipe=recipe, identity=identity, seed=0, overrides=tuple(own))


def copied(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Whether the metrics that might see copies do, and O by the shipped limits.

    Returns:
        `runs`, `checkpoints`, `copying` (past the limit of true copies), and by metric `within` (median rank
        correlation within a run with the true share of copies) and `area` for checkpoints that copy.
    """
    asked = {key: _values(checkpoints, key, direction) for key, direction in METRICS}
    asked["O as shipped"] = [scores.overcook(c.metrics) for c in checkpoints]
    return {
        "runs": len(by_run(checkpoints)),
        "checkpoints": len(checkpoints),
        "copying": sum(c.truth.excess["copies"] > 1 for c in checkpoints),
        "metrics": {key: _against_truth(checkpoints, values) for key, values in asked.items()},
    }


def _values(checkpoints: Sequence[Checkpoint], key: str, direction: int) -> list[float]:
    return [direction * checkpoint.metrics.get(key, nan) for checkpoint in checkpoints]


def _against_truth(checkpoints: Sequence[Checkpoint], values: Sequence[float]) -> dict[str, float]:
    known = [(c, value) for c, value in zip(checkpoints, values, strict=True) if isfinite(value)]
    of = {id(c): value for c, value in known}
    within = [
        spearman(np.array([of[id(c)] for c in rungs]), np.array([c.truth.excess["copies"] for c in rungs]))
        for rungs in by_run(c for c, _ in known).values()
    ]
    varied = [value for value in within if isfinite(value)]
    copying = np.array([c.truth.excess["copies"] > 1 for c, _ in known])
    return {
        "within": float(np.median(varied)) if varied else nan,
        "area": auroc(np.array([value for _, value in known]), copying) if known else nan,
    }
