"""The judged checkpoints of a home as rows: what the product measured beside what is true. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from benchmarks.overcooking import grid, scores
from benchmarks.overcooking import truth as truths
from benchmarks.overcooking.cooking import FINAL, run_folders, status_of
from benchmarks.overcooking.truth import Truth
from lorasweep.core import files
from lorasweep.core.records import from_dict, to_dict
from lorasweep.plan.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One rung of one run."""

    run: str  # name of its folder
    recipe: str  # name of its recipe
    dials: Mapping[str, Any]
    identity: str
    seed: int
    ended: bool
    step: int
    rung: Mapping[str, Any]  # as the product logged it: `metrics` by key (what is missing is absent), `replicates`
    truth: Truth  # what the witness found; `unlearned` is how far the likeness fell from its highest so far
    halves: tuple[Truth, Truth]  # the same by each half of the witness's pictures
    cpu_s: float  # processor seconds that the witness took
    limits: Calibration  # the calibration that lorasweep ships for the base
    had_a_say: bool  # whether the score was made while looking at this run

    @cached_property
    def metrics(self) -> dict[str, float]:
        """What the product measured, with today's scores in the place of those that were given during training."""
        return scores.rescored(self.rung["metrics"], self.limits)


SETTINGS = "settings.json"  # of a home
CONTROL = "control-"  # how the recipes of controls are named
COPYING = "copying-"  # how those of runs are named that are meant to copy


def settings(home: Path) -> dict[str, Any]:
    """What `run` was told; a home of before 2026-11-29 says less."""
    return to_dict(grid.Setting()) | files.read_json(home / SETTINGS)


@lru_cache
def setting(home: Path) -> grid.Setting:
    """What the runs of a home share."""
    told = settings(home)
    return from_dict(grid.Setting, {field.name: told[field.name] for field in dataclasses.fields(grid.Setting)})


def load(home: Path, kind: str = "") -> list[Checkpoint]:
    """Read every rung that was measured and witnessed, run by run, ascending in steps.

    Of the grid; or of one kind of runs beside it, `CONTROL` or `COPYING`.
    """
    return [c for folder in run_folders(home) if kind_of(folder.name) == kind for c in _load_run(folder)]


def kind_of(run: str) -> str:
    """How the names of its kind begin; "" of the grid."""
    return next((kind for kind in (CONTROL, COPYING) if run.startswith(kind)), "")


def by_run(checkpoints: Iterable[Checkpoint]) -> dict[str, list[Checkpoint]]:
    """Group by run, in order."""
    groups: dict[str, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        groups.setdefault(checkpoint.run, []).append(checkpoint)
    return groups


def _load_run(folder: Path) -> list[Checkpoint]:
    run, shared, ended = files.read_json(folder / "run.json"), setting(folder.parents[1]), status_of(folder) in FINAL
    rows: list[Checkpoint] = []
    for event in files.read_jsonl(folder / "events.jsonl"):
        witnessed = folder / "truth" / f"step_{event['step']:06d}.json"
        if event["kind"] != "rung" or not witnessed.exists():
            continue
        testimony, base = files.read_json(witnessed), files.read_json(folder / "truth" / "base.json")
        true = truths.judge(testimony, base)
        highest = max([true.identity, *(c.truth.identity for c in rows)])
        true.extra["unlearned"] = highest - true.identity
        row = Checkpoint(
            run=run["name"],
            recipe=run["recipe"]["name"],
            dials=run["recipe"]["dials"],
            identity=run["identity"],
            seed=run["seed"],
            ended=ended,
            step=event["step"],
            rung=event,
            truth=true,
            halves=truths.halves(testimony, base),
            cpu_s=testimony.get("cpu_s", 0.0),
            limits=scores.shipped(shared.base),
            had_a_say=run["name"] in grid.had_a_say(shared),
        )
        rows.append(row)
    return rows
