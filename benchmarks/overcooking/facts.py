"""Where the figures come from: machine, base, code, scale, and what the training cost."""

from __future__ import annotations

import datetime
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.overcooking import scores
from benchmarks.overcooking.cooking import run_folders
from benchmarks.overcooking.table import CONTROL, COPYING, Checkpoint, by_run
from lorasweep import config
from lorasweep.components.bases import dollhouse
from lorasweep.core import files


def gather(home: Path, checkpoints: Sequence[Checkpoint], *, grid_runs: int) -> dict[str, Any]:
    """Collect everything that the page says about how the figures were made."""
    folders, seen = run_folders(home), by_run(checkpoints)
    ended = {name: rungs for name, rungs in seen.items() if rungs[0].ended}
    cpu_s = sum(row["cpu_s"] for name in ended for row in files.read_jsonl(home / "runs" / name / "times.jsonl"))
    witness_s = sum(c.cpu_s for rungs in ended.values() for c in rungs)
    mean_s, cores = cpu_s / len(ended) if ended else math.nan, os.cpu_count() or 1
    git = files.read_json(folders[0] / "provenance.json").get("git") or {}
    grid_folders = {folder.name for folder in folders if not folder.name.startswith((CONTROL, COPYING))}
    return {
        **files.read_json(home / "settings.json"),  # what `run` was told
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{_cpu_name()}, {cores} cores",
        "cores": cores,
        "grid_runs": grid_runs,
        "runs_left_out": len(grid_folders - set(seen)),
        "run_cpu_s": mean_s,
        "witness_share": witness_s / cpu_s if cpu_s else math.nan,
        "grid_hours": grid_runs * mean_s / cores / 3600,
        "weight": 0.7,
        "base": dollhouse.fingerprint(config.compose_recipe(()).base),
        "calibration": scores.shipped().digest,
        "commit": git.get("commit", "unknown"),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )
