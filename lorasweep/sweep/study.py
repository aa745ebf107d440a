"""The only door to Optuna: one SQLite study per sweep, written by the driver alone.

A trial here is one *attempt* at cooking one (arm, seed): an attempt that died is a FAIL and its successor
carries `retry_of`. User attributes join it to the run folder: `number`, `attempt`, `run_folder`,
`fingerprint`, `status`. The run folders are the source of truth; what is missing here is told from them.

Knows nothing about workers or files other than study.db.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from lorasweep.records import Status
from lorasweep.sweep.folder import TrialRecord
from lorasweep.sweep.manifest import Manifest

STUDY_FILE = "study.db"
SET_ASIDE_FILE = "study.broken.db"
LOCKED_PATIENCE_S = 60
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Meaning:
    """What a status means to Optuna."""

    state: TrialState
    value: float | None = None
    constraints: dict[str, float] = field(default_factory=dict)  # > 0 is infeasible


def meaning(status: Status, value: float | None, *, worst: float) -> Meaning:
    """Translate how an attempt ended; the single place where this is decided.

    Args:
        status: an ended status, or CANCELLED.
        value: the sweep's metric, when it was measured.
        worst: the value told for a recipe that has none because it failed as a recipe.
    """
    match status:
        case Status.COMPLETED if value is not None:
            return Meaning(TrialState.COMPLETE, value)
        case Status.PRUNED:
            return Meaning(TrialState.PRUNED)
        case Status.DIVERGED:
            # Optuna turns a NaN into a FAIL, which samplers ignore; this way they learn to keep away.
            return Meaning(TrialState.COMPLETE, worst, {"diverged": 1.0})
        case Status.OUT_OF_MEMORY:
            return Meaning(TrialState.COMPLETE, worst, {"out_of_memory": 1.0})
        case Status.CRASHED | Status.INVALID | Status.CANCELLED | Status.COMPLETED:
            # COMPLETED without a value: there is nothing true to tell, and COMPLETE demands a number.
            return Meaning(TrialState.FAIL)
    raise ValueError(f"{status} is not an end")


class SweepStudy:
    """The study of one sweep."""

    def __init__(self, sweep_folder: Path, manifest: Manifest) -> None:
        """Open study.db, or set an unusable one aside and start a new one; call `reconcile` next."""
        self._worst = manifest.worst
        self._space = {
            "arm": CategoricalDistribution(tuple(dict.fromkeys(trial.arm for trial in manifest.trials))),
            "seed": CategoricalDistribution(tuple(dict.fromkeys(trial.seed for trial in manifest.trials))),
        }
        self._running: dict[int, Trial] = {}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = sweep_folder / STUDY_FILE
        study = _open(path, manifest)
        if study is None or not self._fits(study) or study.direction != _direction(manifest):
            # Categorical choices cannot grow in place, so an extended sweep gets a new study as well.
            log.info("study.db is rebuilt from the run folders; the old one is kept as %s", SET_ASIDE_FILE)
            path.replace(sweep_folder / SET_ASIDE_FILE)
            # SQLite would roll a journal of the old file back into the new one.
            path.with_name(f"{STUDY_FILE}-journal").unlink(missing_ok=True)
            study = _create(path, manifest)
        self._study = study

    def begin(self, record: TrialRecord, run_folder: str, *, retry_of: int | None) -> int:
        """Enqueue and ask one attempt.

        Returns:
            Optuna's number of it, for `retry_of` of a successor.
        """
        attributes = _attributes(record, run_folder, retry_of)
        del attributes["status"]
        self._study.enqueue_trial({"arm": record.arm, "seed": record.seed}, user_attrs=attributes)
        trial = self._study.ask(dict(self._space))
        self._running[record.number] = trial
        return trial.number

    def report(self, number: int, step: int, value: float) -> None:
        """Record the metric at a rung."""
        self._running[number].report(value, step)

    def end(self, record: TrialRecord) -> None:
        """Tell how the running attempt of `record.number` ended."""
        self._tell(self._running.pop(record.number), record)

    def add(self, record: TrialRecord, run_folder: str) -> None:
        """Record an end that has no running attempt here: a reused result, or one found on disk."""
        means = meaning(record.status, record.value, worst=self._worst)
        self._study.add_trial(
            create_trial(
                state=means.state,
                value=means.value,
                params={"arm": record.arm, "seed": record.seed},
                distributions=dict(self._space),
                user_attrs=_attributes(record, run_folder, None),
                constraints=means.constraints,
            )
        )

    def reconcile(self, records: Iterable[tuple[TrialRecord, str]]) -> dict[int, int]:
        """Make the study say what the run folders say; call it before the first `begin`.

        Args:
            records: status.json and run folder of every trial that has them.

        Returns:
            The last Optuna number by trial number, for `retry_of`.
        """
        by_number = {record.number: (record, run_folder) for record, run_folder in records}
        self._pop_waiting()
        told: set[int] = set()
        for frozen in self._study.get_trials(deepcopy=False):
            record, _ = by_number.get(frozen.user_attrs.get("number", -1), (None, ""))
            same_attempt = record is not None and frozen.user_attrs.get("attempt") == record.attempt
            if frozen.state == TrialState.RUNNING:
                # Its driver died. Optuna's own id is the only way back to a trial of another process.
                trial = Trial(self._study, frozen._trial_id)
                if record is not None and same_attempt and record.status.is_final:
                    self._tell(trial, record)
                    told.add(record.number)
                else:
                    self._study.tell(trial, state=TrialState.FAIL)
            elif record is not None and same_attempt and self._agrees(frozen, record):
                told.add(record.number)
        for number, (record, run_folder) in by_number.items():
            if record.status.is_final and number not in told:
                self.add(record, run_folder)
        return {
            frozen.user_attrs["number"]: frozen.number
            for frozen in self._study.get_trials(deepcopy=False)
            if "number" in frozen.user_attrs
        }

    def trials(self) -> Sequence[FrozenTrial]:
        """All attempts, as Optuna has them."""
        return self._study.get_trials()

    def _tell(self, trial: Trial, record: TrialRecord) -> None:
        means = meaning(record.status, record.value, worst=self._worst)
        trial.set_user_attr("status", record.status.value)
        for name, value in means.constraints.items():
            trial.set_constraint(name, value)
        self._study.tell(trial, means.value, state=means.state)

    def _agrees(self, frozen: FrozenTrial, record: TrialRecord) -> bool:
        if not record.status.is_final:
            return False
        means = meaning(record.status, record.value, worst=self._worst)
        return frozen.state == means.state and (means.value is None or frozen.value == means.value)

    def _pop_waiting(self) -> None:
        """A driver that died between enqueueing and asking leaves a waiting trial that nobody wants."""
        for _ in self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.tell(self._study.ask(), state=TrialState.FAIL)

    def _fits(self, study: Study) -> bool:
        """Whether the choices that the study knows are today's."""
        return all(
            self._space.get(name) == choices
            for frozen in study.get_trials(deepcopy=False)
            for name, choices in frozen.distributions.items()
        )


def _attributes(record: TrialRecord, run_folder: str, retry_of: int | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "number": record.number,
        "attempt": record.attempt,
        "run_folder": run_folder,
        "fingerprint": record.fingerprint,
        "status": record.status.value,
    }
    return attributes if retry_of is None else {**attributes, "retry_of": retry_of}


def _direction(manifest: Manifest) -> StudyDirection:
    return StudyDirection.MINIMIZE if manifest.goal == "minimize" else StudyDirection.MAXIMIZE


def _create(path: Path, manifest: Manifest) -> Study:
    study = optuna.create_study(
        # A dashboard that reads the file may hold it for a moment.
        storage=RDBStorage(
            f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": LOCKED_PATIENCE_S}}
        ),
        study_name=manifest.name,
        direction=_direction(manifest),
        # Every trial is enqueued, so the sampler is never asked; this one costs nothing.
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
    study.set_user_attr("metric", manifest.metric)
    return study


def _open(path: Path, manifest: Manifest) -> Study | None:
    """Open or create; None when the file is there but is not a study that can be read."""
    existed = path.exists()
    try:
        study = _create(path, manifest)
        study.get_trials(deepcopy=False)
    except (
        SQLAlchemyError,
        StorageInternalError,
        optuna.exceptions.DuplicatedStudyError,
        RuntimeError,
        KeyError,
    ):
        if not existed:
            raise
        return None
    return study
