"""The judged checkpoints of a home as rows: what the product measured beside what is true. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.overcooking import grid, scores
from benchmarks.overcooking import truth as truths
from benchmarks.overcooking.cooking import FINAL, run_folders, status_of
from benchmarks.overcooking.truth import Testimony, Truth
from lorasweep.core import files
from lorasweep.core.records import from_dict, to_dict
from lorasweep.plan.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One rung of one run."""

    run: str  # name of its folder
    recipe: str  # name of its recipe; `turned` is the one dial that differs from the centre, if one does
    turned: str | None
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

    @property
    def metrics(self) -> Mapping[str, float]:
        """What the product measured."""
        found: Mapping[str, float] = self.rung["metrics"]
        return found


SETTINGS = "settings.json"  # of a home
CONTROL = "control-"  # how the recipes of controls are named
COPYING = "copying-"  # how those of runs are named that are meant to copy


def settings(home: Path) -> dict[str, Any]:
    """What `run` was told; a home of before 2026-11-29 says less."""
    told: dict[str, Any] = to_dict(grid.Setting()) | files.read_json(home / SETTINGS)
    return told


@lru_cache
def setting(home: Path) -> grid.Setting:
    """What the runs of a home share."""
    told = settings(home)
    return from_dict(grid.Setting, {field.name: told[field.name] for field in dataclasses.fields(grid.Setting)})


def load(home: Path) -> list[Checkpoint]:
    """Read every rung of the grid that was measured and witnessed, run by run, ascending in steps."""
    return [c for c in _load_all(home) if not c.recipe.startswith((CONTROL, COPYING))]


def load_copying(home: Path) -> list[Checkpoint]:
    """Read the checkpoints of the runs that are meant to copy."""
    return [c for c in _load_all(home) if c.recipe.startswith(COPYING)]


def load_controls(home: Path) -> list[Checkpoint]:
    """Read the checkpoints of the trained and of the planted controls."""
    trained = [c for c in _load_all(home) if c.recipe.startswith(CONTROL)]
    return trained + [_load_planted(path) for path in sorted((home / "controls").glob("*.json"))]


def by_run(checkpoints: Iterable[Checkpoint]) -> dict[str, list[Checkpoint]]:
    """Group by run, in order."""
    groups: dict[str, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        groups.setdefault(checkpoint.run, []).append(checkpoint)
    return groups


def _load_all(home: Path) -> list[Checkpoint]:
    return [checkpoint for folder in run_folders(home) for checkpoint in _load_run(folder)]


def _load_planted(path: Path) -> Checkpoint:
    found, name = files.read_json(path), f"{CONTROL}{path.stem}"
    run = {
        "name": name,
        "recipe": {"name": name, "turned": None, "dials": {}},
        "identity": found["identity"],
        "seed": 0,
    }
    return _checkpoint(run, found["rung"], found["testimony"], found["base"], home=path.parents[1], ended=True)


def _load_run(folder: Path) -> list[Checkpoint]:
    run, ended = files.read_json(folder / "run.json"), status_of(folder) in FINAL
    rows: list[Checkpoint] = []
    for event in files.read_jsonl(folder / "events.jsonl"):
        witnessed = folder / "truth" / f"step_{event['step']:06d}.json"
        if event["kind"] == "rung" and witnessed.exists():
            base = files.read_json(folder / "truth" / "base.json")
            row = _checkpoint(run, event, files.read_json(witnessed), base, home=folder.parents[1], ended=ended)
            row.truth.extra["unlearned"] = max(c.truth.identity for c in (*rows, row)) - row.truth.identity
            rows.append(row)
    return rows


def _checkpoint(
    run: Mapping[str, Any],
    rung: Mapping[str, Any],
    testimony: Testimony,
    base: Testimony,
    *,
    home: Path,
    ended: bool,
) -> Checkpoint:
    recipe, shared = run["recipe"], setting(home)
    return Checkpoint(
        run=run["name"],
        recipe=recipe["name"],
        turned=recipe["turned"],
        dials=recipe["dials"],
        identity=run["identity"],
        seed=run["seed"],
        ended=ended,
        step=rung["step"],
        rung=rung,
        truth=truths.judge(testimony, base),
        halves=truths.halves(testimony, base),
        cpu_s=testimony.get("cpu_s", 0.0),
        limits=scores.shipped(shared.base),
        had_a_say=run["name"] in grid.had_a_say(shared),
    )
