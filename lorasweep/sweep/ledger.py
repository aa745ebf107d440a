"""Writes down what happens to trials: run folder first, flushed, then the study, then a nudge to the mirror.

Whatever is lost by dying between two of these is restored at the next start by `resume` and
`SweepStudy.reconcile`, because the run folder is always ahead. Knows nothing about workers.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from lorasweep.config import to_yaml
from lorasweep.files import write_json, write_text
from lorasweep.records import Outcome, Status, to_dict
from lorasweep.sweep.folder import OUTCOME_FILE, TrialRecord, write_status
from lorasweep.sweep.mirror import Mirror
from lorasweep.sweep.policy import after
from lorasweep.sweep.pruning import in_exposures
from lorasweep.sweep.queue import Trial
from lorasweep.sweep.study import SweepStudy

# What belongs to a trial and not to its recipe, so that a twin has its own.
OWN_FILES = (
    "status.json",
    OUTCOME_FILE,
    "mlflow.json",
    "recipe.yaml",
    "plan.json",
    "checkpoints",
    "error.txt",
)


class Ledger:
    """Every durable change of a trial goes through here."""

    def __init__(
        self, study: SweepStudy, mirror: Mirror | None, *, metric: str, also: Sequence[str] = ()
    ) -> None:
        """Collect who is told.

        Args:
            study: told second.
            mirror: nudged last.
            metric: the sweep's.
            also: metrics that the study needs besides it.
        """
        self._study = study
        self._mirror = mirror
        self._metric, self._also = metric, tuple(also)

    def begin(self, trial: Trial) -> None:
        """Write ahead: after this the trial may be handed to a worker."""
        record = dataclasses.replace(
            trial.record,
            status=Status.RUNNING,
            attempt=trial.record.attempt + 1,
            reason="",
            started_at=trial.record.started_at or time.time(),
            ended_at=None,
        )
        trial.folder.mkdir(parents=True, exist_ok=True)
        (trial.folder / OUTCOME_FILE).unlink(missing_ok=True)
        _write_inputs(trial)
        self._write(trial, record)
        trial.optuna_number = self._study.begin(record, trial.folder.name, retry_of=trial.optuna_number)
        self._poke()

    def rung(self, trial: Trial) -> None:
        """Note a rung and, when it was measured there, the sweep's metric."""
        # It got further than before, so whatever crashed it was not waiting at one place: count afresh.
        self._write(trial, dataclasses.replace(trial.record, step=trial.step, crashes=0))
        value = trial.metrics.get(self._metric)
        at = [in_exposures(exposures) for exposures in trial.rungs]
        # In a budget of a few steps two rungs may be less than one exposure apart: the first one counts.
        if value is not None and at.count(at[-1]) == 1:
            self._study.report(trial.number, at[-1], value)
        self._poke()

    def end(self, trial: Trial, outcome: Outcome) -> None:
        """Note the end of an attempt; the trial is WAITING afterwards when it will be cooked again."""
        measured = {name: outcome.metrics[name] for name in self._also if name in outcome.metrics}
        record = dataclasses.replace(
            after(trial.record, outcome, metric=self._metric, now_s=time.time()), measured=measured
        )
        self._write(trial, record)
        # To Optuna an attempt that will be repeated is over all the same.
        self._study.end(dataclasses.replace(record, status=outcome.status))
        self._poke()

    def reuse(self, twin: Trial, original: Trial) -> None:
        """Give a trial the results of the identical recipe that was cooked under another name."""
        twin.folder.mkdir(parents=True, exist_ok=True)
        _copy_results(original.folder, twin.folder)
        _write_inputs(twin)
        reason = f"the same recipe, seed and images as {original.folder.name}: its results are reused"
        if original.record.reason:
            reason += f" ({original.record.reason})"
        now = time.time()
        record = dataclasses.replace(
            original.record,
            number=twin.number,
            arm=twin.record.arm,
            seed=twin.record.seed,
            attempt=twin.record.attempt,
            reason=reason,
            started_at=now,
            ended_at=now,
        )
        twin.metrics, twin.verdict, twin.loss = dict(original.metrics), dict(original.verdict), original.loss
        self._write(twin, record)
        self._study.add(record, twin.folder.name)
        self._poke()

    def _write(self, trial: Trial, record: TrialRecord) -> None:
        write_status(trial.folder, record)
        trial.record = record

    def _poke(self) -> None:
        if self._mirror is not None:
            self._mirror.poke()


def _write_inputs(trial: Trial) -> None:
    write_text(trial.folder / "recipe.yaml", to_yaml(trial.recipe))
    write_json(trial.folder / "plan.json", to_dict(trial.plan))


def _copy_results(source: Path, target: Path) -> None:
    shutil.copytree(
        source,
        target,
        ignore=shutil.ignore_patterns(*OWN_FILES),
        copy_function=_link_or_copy,
        dirs_exist_ok=True,
    )


def _link_or_copy(source: str, target: str) -> None:
    """Hard-link where the file system can: results are replaced whole, never edited; logs are appended to."""
    Path(target).unlink(missing_ok=True)
    if not source.endswith(".jsonl"):
        try:
            os.link(source, target)
            return
        except OSError:
            pass
    shutil.copy2(source, target)
