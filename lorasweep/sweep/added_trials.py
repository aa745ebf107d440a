"""asked.jsonl: the trials that a sweep came to hold after it was declared, one line for each recipe.

Points of a space are asked for one after the other, and an arm may be given further seeds. Lines are only
added, so that asking costs the same for the first and the thousandth; a line that a kill tore was never
asked. Knows nothing about where points come from.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep.core.files import append_jsonl, read_jsonl
from lorasweep.core.records import from_dict, to_dict
from lorasweep.core.run_folder import ASKED_FILE


@dataclass(frozen=True, kw_only=True)
class AddedTrials:
    """One recipe and the trials that it gets, numbered from `number` in the order of `seeds`."""

    number: int
    arm: str
    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()  # of a new point; empty for an arm that is known already
    params: dict[str, Any] | None = None  # where it lies in the space
    plan: str = ""  # fingerprint of its plan


def append(sweep_folder: Path, row: AddedTrials) -> None:
    """Add a line, flushed to disk before returning."""
    path = sweep_folder / ASKED_FILE
    append_jsonl(path, to_dict(row))
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def read(sweep_folder: Path) -> list[AddedTrials]:
    """Read all lines that are whole, in the order in which they were asked."""
    found = []
    for data in read_jsonl(sweep_folder / ASKED_FILE):
        try:
            found.append(from_dict(AddedTrials, data))
        except (TypeError, KeyError):
            continue
    return found


def forget(sweep_folder: Path) -> None:
    """Start over, when nothing of it was begun."""
    (sweep_folder / ASKED_FILE).unlink(missing_ok=True)
