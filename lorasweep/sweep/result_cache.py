"""What this home has already made, in a sweep or by `train`, so that nothing is cooked or drawn twice.

    fingerprint of a trial  ->  a completed run folder with the same recipe, seed, images, base, code and limits
    BaseSamples             the base model's own samples of a sweep: there, taken from another one, or to be drawn

Read from the run folders when it is first asked. Base samples are drawn for a sweep's first trial, its prompts and
its sampling, before any trial is cooked; when that trial is reused from a sweep whose first trial it was too, they
are taken as well. Knows nothing about Optuna or processes.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from lorasweep.core.files import link_or_copy, write_folder
from lorasweep.core.provenance import code_digest
from lorasweep.core.records import Outcome, Recipe, Status
from lorasweep.core.run_folder import (
    BASE_SAMPLES,
    NO_INDEX,
    RESULT_FILE,
    RunFolder,
    SweepFolder,
    TrialRecord,
    folders_in,
    pictures_in,
)
from lorasweep.plan import calibration

FIRST = 0  # number of the trial they are drawn for
log = logging.getLogger(__name__)


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
        """Tell how it ended, with all that was measured, since another sweep may be about another metric."""
        result = RunFolder(self.folder).result
        return Outcome(
            status=Status.COMPLETED, step=self.record.step, metrics=result["metrics"], missing=result["missing"]
        )


class ResultCache:
    """The completed trials beside a sweep, or beside a single run."""

    def __init__(self, outputs: Path, *, own: Path) -> None:
        """Look nowhere yet; `own`, the folder of the sweep or the run that asks, is not beside itself."""
        self._outputs, self._own = outputs, own
        self._known: dict[str, list[Cooked]] | None = None

    def find(self, fingerprint: str, recipe: Recipe) -> Cooked | None:
        """Find a trial that was cooked by this very code, and judged by today's limits; None when there is none."""
        if self._known is None:
            self._known = self._read()
        cooked = self._known.get(fingerprint)
        if not cooked:
            return None
        today = calibration.of_today(recipe).digest
        whole = (each for each in cooked if not RunFolder(each.folder).lost)
        return next((each for each in whole if RunFolder(each.folder).judged_by in (None, today)), None)

    def _read(self) -> dict[str, list[Cooked]]:
        found: dict[str, list[Cooked]] = {}
        sweeps = [SweepFolder(folder) for folder in folders_in(self._outputs) if folder != self._own]
        for run in (run for sweep in sweeps for run in sweep.runs if run.path != self._own):
            record = run.record
            if record is not None and record.status is Status.COMPLETED and _is_whole(run):
                found.setdefault(record.fingerprint, []).append(Cooked(run.path, record))
        return found


def _is_whole(run: RunFolder) -> bool:
    """Tell whether the result is there and was made by the code of today."""
    there = (run.path / RESULT_FILE).exists() and run.adapter.exists()
    return there and run.provenance.get("code") == code_digest()


class BaseSamples:
    """Those of one sweep."""

    def __init__(self, sweep_folder: Path) -> None:
        self.folder = sweep_folder / BASE_SAMPLES
        # Still to be drawn; a single run has none.
        self.wanted = SweepFolder(sweep_folder).is_declared and not _whole(self.folder)
        if self.wanted:
            shutil.rmtree(self.folder, ignore_errors=True)  # what was cut short

    def take_from(self, cooked: Cooked, *, number: int) -> None:
        """Take those that another sweep drew for the same recipe, which is trial `number` here, if there are any."""
        theirs = cooked.folder.parent / BASE_SAMPLES
        if not (number == cooked.record.number == FIRST and self.wanted and _whole(theirs)):
            return
        try:
            write_folder(
                self.folder,
                lambda place: shutil.copytree(theirs, place, copy_function=link_or_copy, dirs_exist_ok=True),
            )
        except OSError as error:  # they can be drawn all the same
            log.info("%s could not be copied: %s", theirs, error)
        else:
            self.wanted = False


def _whole(folder: Path) -> bool:
    try:
        return all(file.is_file() for file, _ in pictures_in(folder))
    except NO_INDEX:
        return False
