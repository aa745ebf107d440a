"""The judged checkpoints of a home as rows: what the product measured beside what is true. No torch."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.overcooking import truth as truths
from benchmarks.overcooking.cooking import FINAL, run_folders, status_of
from benchmarks.overcooking.pictures import LOOKS
from benchmarks.overcooking.remeasuring import remeasured, with_remeasured
from benchmarks.overcooking.truth import Truth
from lorasweep.core import files


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One rung of one run.

    Attributes:
        run: name of its folder.
        recipe: name of its recipe; `turned` is the one dial that differs from the centre, if one does.
        rung: as the product logged it: `metrics` by key (what is missing is absent), `replicates`.
        truth: what the witness found; `unlearned` is how far the likeness fell from its highest so far, and
            `changed_open` is NaN before the last look.
        halves: the same by each half of the witness's pictures.
        cpu_s: processor seconds that the witness took, in the first look.
        looks: how often the witness looked.
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
    looks: int = 1

    @property
    def exposures_per_image(self) -> float:
        """How often each image was seen."""
        return float(self.rung["exposures_per_image"])

    @property
    def metrics(self) -> Mapping[str, float]:
        """What the product measured."""
        found: Mapping[str, float] = self.rung["metrics"]
        return found


FIRST_LOOK = "truth"  # in a run folder, what the witness found while it cooked
CONTROL = "control-"  # how the recipes of controls are named
COPYING = "copying-"  # how those of runs are named that are meant to copy


def load(home: Path) -> list[Checkpoint]:
    """Read every rung of the grid that was measured and witnessed, run by run, ascending in steps."""
    return [c for c in _load_all(home) if not c.recipe.startswith((CONTROL, COPYING))]


def load_copying(home: Path) -> list[Checkpoint]:
    """Read the checkpoints of the runs that are meant to copy."""
    return [c for c in _load_all(home) if c.recipe.startswith(COPYING)]


def load_controls(home: Path) -> list[Checkpoint]:
    """Read the checkpoints of the cooked and of the planted controls."""
    cooked = [c for c in _load_all(home) if c.recipe.startswith(CONTROL)]
    return cooked + [_load_planted(path) for path in sorted((home / "controls").glob("*.json"))]


def by_run(checkpoints: Iterable[Checkpoint]) -> dict[str, list[Checkpoint]]:
    """Group by run, in order."""
    groups: dict[str, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        groups.setdefault(checkpoint.run, []).append(checkpoint)
    return groups


def _load_all(home: Path) -> list[Checkpoint]:
    found: list[Checkpoint] = []
    for folder in run_folders(home):
        found += _load_run(folder)
    return found


def _load_planted(path: Path) -> Checkpoint:
    found = files.read_json(path)
    return Checkpoint(
        run=f"{CONTROL}{path.stem}",
        recipe=f"{CONTROL}{path.stem}",
        turned=None,
        dials={},
        identity=found["identity"],
        seed=0,
        ended=True,
        step=0,
        rung=found["rung"],
        truth=truths.judge(found["testimony"], found["base"]),
        halves=truths.halves(found["testimony"], found["base"]),
        cpu_s=0.0,
    )


def _load_run(folder: Path) -> list[Checkpoint]:
    run = files.read_json(folder / "run.json")
    looks = (FIRST_LOOK, *(further.folder for further in LOOKS))
    bases = {look: files.read_json(path) for look in looks if (path := folder / look / "base.json").exists()}
    anew = remeasured(folder)
    rows: list[Checkpoint] = []
    for event in files.read_jsonl(folder / "events.jsonl"):
        name = f"step_{event['step']:06d}.json"
        seen = [look for look in bases if (folder / look / name).exists()]
        if event["kind"] != "rung" or FIRST_LOOK not in seen:
            continue
        testimony = functools.reduce(truths.together, [files.read_json(folder / look / name) for look in seen])
        known = functools.reduce(truths.together, [bases[look] for look in seen])
        found = truths.judge(testimony, known)
        best = max([found.identity, *(row.truth.identity for row in rows)])
        extra = found.extra | {"unlearned": best - found.identity}
        if LOOKS[-1].folder not in seen:
            extra["changed_open"] = math.nan  # the looks before draw too few bare prompts to know
        rows.append(
            Checkpoint(
                run=run["name"],
                recipe=run["recipe"]["name"],
                turned=run["recipe"]["turned"],
                dials=run["recipe"]["dials"],
                identity=run["identity"],
                seed=run["seed"],
                ended=status_of(folder) in FINAL,
                step=event["step"],
                rung=with_remeasured(event, anew.get(str(event["step"]))),
                truth=replace(found, extra=extra),
                halves=truths.halves(testimony, known),
                looks=len(seen),
                cpu_s=testimony["cpu_s"],
            )
        )
    return rows
