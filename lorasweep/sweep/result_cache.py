"""What this home has already cooked, in a sweep or by `train`, so that no recipe is cooked twice.

    fingerprint of a trial  ->  a completed run folder with the same recipe, seed, images, base and code

Read from the run folders when it is first asked. Knows nothing about Optuna or processes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lorasweep.core.files import read_json
from lorasweep.core.provenance import code_digest
from lorasweep.core.records import Outcome, Status
from lorasweep.sweep.folder import TrialRecord, read_status

RESULT_FILES = ("metrics.json", "adapter.safetensors")


@dataclass(frozen=True)
class Cooked:
    """A finished trial of another sweep, or a single run."""

    folder: Path
    record: TrialRecord

    @property
    def name(self) -> str:
        """`<sweep>/<run folder>`; of a trial that was itself reused, where it was cooked."""
        return self.record.reused_from or f"{self.folder.parent.name}/{self.folder.name}"

    def outcome(self) -> Outcome:
        """How it ended, with all that was measured, since another sweep may be about another metric."""
        result = read_json(self.folder / "metrics.json")
        return Outcome(
            status=Status.COMPLETED,
            step=self.record.step,
            metrics=result["metrics"],
            missing=result.get("missing") or {},
        )


class ResultCache:
    """The completed trials beside a sweep, or beside a single run."""

    def __init__(self, outputs: Path, *, own: Path) -> None:
        """Look nowhere yet; `own`, the folder of the sweep or the run that asks, is not beside itself."""
        self._outputs, self._own = outputs, own
        self._known: dict[str, Cooked] | None = None

    def find(self, fingerprint: str) -> Cooked | None:
        """Find a trial that was cooked by this very code; None when there is none."""
        if self._known is None:
            self._known = self._read()
        return self._known.get(fingerprint)

    def _read(self) -> dict[str, Cooked]:
        found: dict[str, Cooked] = {}
        for path in sorted(self._outputs.glob("*/*/status.json")):
            folder = path.parent
            if self._own in (folder, folder.parent):
                continue
            record = read_status(folder)
            if record is not None and record.status is Status.COMPLETED and _is_whole(folder):
                found.setdefault(record.fingerprint, Cooked(folder, record))
        return found


def _is_whole(folder: Path) -> bool:
    """Whether the result is there and was made by the code of today."""
    try:
        made_by = read_json(folder / "provenance.json").get("code")
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        return False
    return made_by == code_digest() and all((folder / name).exists() for name in RESULT_FILES)
