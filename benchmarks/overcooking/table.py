"""The judged checkpoints of a home as rows: what the product measured beside what is true. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.overcooking import truth as truths
from benchmarks.overcooking.cooking import FINAL, run_folders, status_of
from benchmarks.overcooking.truth import Testimony, Truth
from lorasweep.core import files


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One rung of one run.

    Attributes:
        run: name of its folder.
        recipe: name of its recipe; `turned` is the one dial that differs from the centre, if one does.
        rung: as the product logged it: `metrics` by key (what is missing is absent), `replicates`.
        truth: what the witness found; `unlearned` is how far the likeness fell from its highest so far.
        halves: the same by each half of the witness's pictures.
        cpu_s: processor seconds that the witness took.
    """

    run: str
    recipe: str
    turned: str | None
    dials: Mapping[str, Any]
    identity: str
    seed: int
    ended: bool
    step: int
    rung: Mapping[str, Any]
    truth: Truth
    halves: tuple[Truth, Truth]
    cpu_s: float

    @property
    def metrics(self) -> Mapping[str, float]:
        """What the product measured."""
        found: Mapping[str, float] = self.rung["metrics"]
        return found


CONTROL = "control-"  # how the recipes of controls are named
COPYING = "copying-"  # how those of runs are named that are meant to copy


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
    return _checkpoint(run, found["rung"], found["testimony"], found["base"], ended=True)


def _load_run(folder: Path) -> list[Checkpoint]:
    run, ended = files.read_json(folder / "run.json"), status_of(folder) in FINAL
    rows: list[Checkpoint] = []
    for event in files.read_jsonl(folder / "events.jsonl"):
        witnessed = folder / "truth" / f"step_{event['step']:06d}.json"
        if event["kind"] == "rung" and witnessed.exists():
            base = files.read_json(folder / "truth" / "base.json")
            row = _checkpoint(run, event, files.read_json(witnessed), base, ended=ended)
            row.truth.extra["unlearned"] = max(c.truth.identity for c in (*rows, row)) - row.truth.identity
            rows.append(row)
    return rows


def _checkpoint(
    run: Mapping[str, Any], rung: Mapping[str, Any], testimony: Testimony, base: Testimony, *, ended: bool
) -> Checkpoint:
    recipe = run["recipe"]
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
    )
