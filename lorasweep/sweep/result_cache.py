"""What this home has already cooked, in a sweep or by `train`, so that no recipe is cooked twice.

    fingerprint of a trial  ->  a completed run folder with the same recipe, seed, images, base and code

Read from the run folders when it is first asked. Knows nothing about Optuna or processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorasweep.core.provenance import code_digest
from lorasweep.core.records import Outcome, Status
from lorasweep.core.run_folder import RESULT_FILE, RunFolder, SweepFolder, TrialRecord, folders_in


@dataclass(frozen=True)
class Cooked:
    """A finished trial of another sweep, or a single run."""

    folder: Path
    record: TrialRecord

    @property
    def name(self) -> str:
        """`<sweep>/<run folder>`; of a trial that was itself reused, where it was cooked."""
        return self.record.reused_from or RunFolder(self.folder).name

    def outcome(self) -> Outcome:
        """How it ended, with all that was measured, since another sweep may be about another metric."""
        result = RunFolder(self.folder).result
        return Outcome(
            status=Status.COMPLETED, step=self.record.step, metrics=result["metrics"], missing=result["missing"]
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
        sweeps = [SweepFolder(folder) for folder in folders_in(self._outputs) if folder != self._own]
        for run in (run for sweep in sweeps for run in sweep.runs if run.path != self._own):
            record = run.record
            if record is not None and record.status is Status.COMPLETED and _is_whole(run):
                found.setdefault(record.fingerprint, Cooked(run.path, record))
        return found


def _is_whole(run: RunFolder) -> bool:
    """Whether the result is there and was made by the code of today."""
    there = (run.path / RESULT_FILE).exists() and run.adapter.exists()
    return there and run.provenance.get("code") == code_digest()
