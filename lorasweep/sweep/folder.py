"""A trial's run folder: its name, and the two small files by which driver and worker agree on what happened.

    status.json   written only by the driver: where the trial stands
    outcome.json  written only by the worker, when a cook ends: so that an end is not lost with the driver

Knows nothing about Optuna, MLflow or processes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorasweep.core.files import read_json, read_jsonl, write_json
from lorasweep.core.records import Outcome, Status, from_dict, to_dict

STATUS_FILE = "status.json"
OUTCOME_FILE = "outcome.json"
RESULT_FILE = "metrics.json"
PARENT_FILE = "parent.json"  # of a single run: what it is a variation of
PRUNING_FILE = "pruning.json"  # of the sweep: what pruning saved and cost
DRIVER_GONE = "its driver is gone; run the same command to continue"


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """The content of status.json."""

    number: int  # stable over the life of the sweep, from 0
    arm: str
    seed: int
    status: Status
    fingerprint: str  # of recipe, seed, images, captions and base: equal means that the results are equal
    step: int = 0  # last finished optimizer step that the driver knows of
    steps: int = 0  # planned optimizer steps
    attempt: int = 1  # how many times it was handed to a worker, from 1
    crashes: int = 0  # attempts lost to a dead worker or an unexpected error, since the last rung
    reason: str = ""
    value: float | None = None  # the sweep's metric
    measured: dict[str, float] = field(default_factory=dict)  # the second objective, constrained metrics
    broken: str = ""  # the bounds that it does not keep: it has a value, and is not ranked
    exempt: bool = False  # by lot: it runs its course whatever a pruner says
    spared: str = ""  # why a pruner would have stopped it, had it not been exempt
    reused_from: str = ""  # a run folder here, or `<sweep>/<run folder>`: it was cooked there, not here
    started_at: float | None = None  # unix s, first attempt
    ended_at: float | None = None  # unix s


def run_folder_name(number: int, arm: str, seed: int) -> str:
    """Name a run folder, e.g. `0003-adamw_cosine-s1`; characters that file systems dislike become `-`."""
    return f"{number:04d}-{re.sub(r'[^A-Za-z0-9._-]+', '-', arm)}-s{seed}"


def write_status(run_folder: Path, record: TrialRecord, *, durable: bool = True) -> None:
    """Write status.json, flushed to disk before returning; `durable` as in `files.write_atomic`."""
    write_json(run_folder / STATUS_FILE, to_dict(record), durable=durable)


def read_status(run_folder: Path) -> TrialRecord | None:
    """Read status.json; None when the folder has none that can be read, as if it was never started."""
    data = read_or_none(run_folder / STATUS_FILE)
    if data is None:
        return None
    known = {field.name for field in dataclasses.fields(TrialRecord)}
    try:
        return from_dict(TrialRecord, {key: value for key, value in data.items() if key in known})
    except (TypeError, ValueError):
        return None


def write_outcome(run_folder: Path, outcome: Outcome, *, attempt: int) -> None:
    """Leave the outcome of one attempt for a driver that may be gone."""
    write_json(run_folder / OUTCOME_FILE, {"attempt": attempt, "outcome": to_dict(outcome)})


def read_outcome(run_folder: Path, *, attempt: int) -> Outcome | None:
    """Read what the worker left for this attempt; None when the attempt did not end."""
    data = read_or_none(run_folder / OUTCOME_FILE)
    if data is None or data.get("attempt") != attempt:
        return None
    return from_dict(Outcome, data["outcome"])


def read_result(run_folder: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """The final metrics and the verdict of a run folder; empty when there are none."""
    result = read_or_none(run_folder / RESULT_FILE) or {}
    return dict(result.get("metrics") or {}), dict(result.get("verdict") or {})


def read_rungs(run_folder: Path) -> dict[float, dict[str, float]]:
    """What was measured at the rungs so far: exposures per image -> metrics."""
    rungs = (row for row in read_jsonl(run_folder / "events.jsonl") if row.get("kind") == "rung")
    return {row["exposures_per_image"]: row["metrics"] for row in rungs}


def read_or_none(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None when there is none that can be read."""
    try:
        data = read_json(path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return data if isinstance(data, dict) else None


def link_or_copy(source: str, target: str) -> None:
    """Hard-link where the file system can: results are replaced whole, never edited; logs are appended to."""
    Path(target).unlink(missing_ok=True)
    if not source.endswith(".jsonl"):
        try:
            os.link(source, target)
            return
        except OSError:
            pass
    shutil.copy2(source, target)
