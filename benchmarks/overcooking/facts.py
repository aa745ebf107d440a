"""Where the figures come from: machine, base, code, scale, and what the cooking cost."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.overcooking import scores
from benchmarks.overcooking.cooking import run_folders
from benchmarks.overcooking.pictures import LOOKS
from benchmarks.overcooking.remeasuring import remeasured
from benchmarks.overcooking.table import CONTROL, COPYING, Checkpoint, by_run
from lorasweep.core import files

SETTINGS = "settings.json"  # what `run` was told, for every later call and for the page


def gather(home: Path, checkpoints: Sequence[Checkpoint], *, grid_runs: int) -> dict[str, Any]:
    """Everything that the page says about how the figures were made."""
    settings = files.read_json(home / SETTINGS)
    folders = run_folders(home)
    seen = by_run(checkpoints)
    cpu_s = {name: _cpu_s(home / "runs" / name) for name, rungs in seen.items() if rungs[0].ended}
    witness_s = {name: sum(c.cpu_s for c in rungs) for name, rungs in seen.items() if name in cpu_s}
    mean_s = sum(cpu_s.values()) / len(cpu_s) if cpu_s else float("nan")
    first = folders[0]
    cores = os.cpu_count() or 1
    grid_folders = [folder for folder in folders if not folder.name.startswith((CONTROL, COPYING))]
    return {
        **settings,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{_cpu_name()}, {cores} cores",
        "cores": cores,
        "grid_runs": grid_runs,
        "runs_left_out": len({folder.name for folder in grid_folders} - set(seen)),
        "run_cpu_s": mean_s,
        "witness_share": sum(witness_s.values()) / sum(cpu_s.values()) if cpu_s else float("nan"),
        "grid_hours": grid_runs * mean_s / cores / 3600,
        "weight": 0.7,
        "looks": [
            {
                "pictures": sum(asdict(look.counts).values()),
                "checkpoints": sum(len([*(home / "runs" / name / look.folder).glob("step_*")]) for name in seen),
            }
            for look in LOOKS
        ],
        "remeasured": any(remeasured(home / "runs" / name) for name in seen),
        "base": _base_fingerprint(),
        "calibration": scores.shipped().digest,
        "commit": (files.read_json(first / "provenance.json").get("git") or {}).get("commit", "unknown"),
    }


def _cpu_s(folder: Path) -> float:
    return sum(row["cpu_s"] for row in files.read_jsonl(folder / "times.jsonl"))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def _base_fingerprint() -> str:
    from lorasweep import config
    from lorasweep.components.bases import dollhouse

    found: str = dollhouse.fingerprint(config.compose_recipe(()).base)
    return found
