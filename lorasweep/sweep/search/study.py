"""The only door to Optuna's storage: one SQLite study per sweep, written by the driver alone.

A trial here is one *attempt* at cooking one recipe with one seed: an attempt that died is a FAIL and its
successor carries `retry_of`. Its params are the point of the space, or the arm's name where there is none;
seeds are repeats, not params. User attributes join it to the run folder: `number`, `arm`, `seed`, `attempt`,
`run_folder`, `fingerprint`, `status`. The run folders are the source of truth; what is missing here is told
from them, also when the file is deleted or broken while it is in use.

Knows nothing about workers or files other than study.db.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from lorasweep.config.space import Point
from lorasweep.config.sweep_spec import Constraint, Search
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.records import Status
from lorasweep.core.run_folder import MANIFEST_FILE, SET_ASIDE_FILE, STUDY_FILE, SweepFolder, TrialRecord
from lorasweep.sweep.manifest import Manifest
from lorasweep.sweep.retry import is_disk_full
from lorasweep.sweep.search.sampling import distributions, make_sampler, suggest

NOT_MEASURED = 1.0  # a bound that nobody measured was not kept
log = logging.getLogger(__name__)
LOCKED_PATIENCE_S = 60
LONGEST_PATH = 504  # bytes: SQLite's 512, less what it appends for the journal
BOUNDS = "constraints"  # the study's own attribute that says by which
WRITTEN_FOR = "5.0"  # Optuna
DAMAGE = (SQLAlchemyError, StorageInternalError, KeyError)  # KeyError: what was written is not there any more

T = TypeVar("T")
Found = Callable[[], Iterable[tuple[TrialRecord, dict[int, float]]]]


@dataclass(frozen=True)
class OptunaResult:
    """What the end of an attempt means to Optuna."""

    state: TrialState
    values: tuple[float, ...] | None = None  # one per objective; None when there is nothing to tell
    constraints: dict[str, float] = field(default_factory=dict)  # > 0 is infeasible


def meaning(record: TrialRecord, manifest: Manifest) -> OptunaResult:
    """Translate how an attempt ended, by its record; the single place where this is decided.

    Raises:
        ValueError: it has not ended.
    """
    further = manifest.search.get("further", ())
    match record.status:
        case Status.COMPLETED:
            measured = (record.value, *(record.measured.get(each["name"]) for each in further))
            values = tuple(value for value in measured if value is not None)
            if len(values) < len(measured):  # there is nothing true to tell, and COMPLETE demands numbers
                return OptunaResult(TrialState.FAIL)
            bounds = [Constraint(**each) for each in manifest.search.get("constraints", ())]
            broken = {
                bound.metric: bound.violation(record.measured[bound.metric])
                if bound.metric in record.measured
                else NOT_MEASURED
                for bound in bounds
            }
            return OptunaResult(TrialState.COMPLETE, values, broken)
        case Status.PRUNED:
            return OptunaResult(TrialState.PRUNED)
        case Status.DIVERGED | Status.OUT_OF_MEMORY | Status.INVALID:
            # Optuna's samplers ignore a FAIL, and might ask for the same again; this way they keep away.
            worst = (manifest.worst, *(each["worst"] for each in further))
            return OptunaResult(TrialState.COMPLETE, worst, {record.status.value.lower(): 1.0})
        case Status.CRASHED | Status.CANCELLED:
            return OptunaResult(TrialState.FAIL)
    raise ValueError(f"{record.status} is not an end")


class SweepStudy:
    """The study of one sweep."""

    def __init__(
        self, sweep_folder: Path, manifest: Manifest, search: Search | None = None, *, outdated: bool = False
    ) -> None:
        """Open study.db, or set an unusable or outdated one aside and start a new one; call `reconcile` next."""
        self._path, self._manifest, self._search = sweep_folder / STUDY_FILE, manifest, search
        self._space = _axes(manifest, search)
        self._params: dict[str, dict[str, Any]] = {}
        for arm in manifest.arms:
            self.know(arm.name, arm.params)
        self._found: Found = tuple
        self._last: dict[int, int] = {}  # Optuna's number of a trial's last attempt
        self._asked: dict[int, Trial] = {}  # points whose trial has not begun
        self._running: dict[int, Trial] = {}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = open_study(self._path, manifest)
        # Categorical choices cannot grow in place, nor bounds change: an edited sweep gets a new study as well.
        if study is None or outdated or not self._fits(study) or study.directions != directions(manifest):
            study = self._new()
        self._take(study)

    def _new(self) -> Study:
        log.info("study.db is rebuilt from the run folders; the old one is kept as %s", SET_ASIDE_FILE)
        with suppress(FileNotFoundError):
            self._path.replace(self._path.with_name(SET_ASIDE_FILE))
        # SQLite would roll a journal of the old file back into the new one.
        self._path.with_name(f"{STUDY_FILE}-journal").unlink(missing_ok=True)
        return create_study(self._path, self._manifest)

    def _take(self, study: Study) -> None:
        study.set_user_attr(BOUNDS, _bounds(self._manifest))
        self._study = study
        self._quick = study.sampler

    def _surviving(self, deed: Callable[[], T]) -> T | None:
        """Do it; None when the file was damaged since, and has been told again what the run folders say by now."""
        try:
            return deed()
        except DAMAGE as error:
            if is_disk_full(error) or not self._path.with_name(MANIFEST_FILE).exists():
                raise  # there is no room, or the whole folder was taken away
            log.warning("study.db was taken away or damaged while in use: it is rebuilt from the run folders")
        running = set(self._running)
        self._asked.clear()
        self._running.clear()
        self._take(self._new())
        self.reconcile(self._found)
        for record, rungs in self._found():
            if record.number in running and record.status is Status.RUNNING:
                self._begin(record)
                for at, value in rungs.items():
                    self._report(record.number, at, value)
        return None

    def know(self, arm: str, params: Mapping[str, Any] | None) -> None:
        """Note where an arm lies: in the space, outside of it, or where there is none."""
        if not self._manifest.space:
            self._params[arm] = {"arm": arm}
        elif params is None or (self._search is not None and self._search.space.point(params) is None):
            self._params[arm] = {}
        else:
            self._params[arm] = dict(params)

    def ask(self, number: int, index: int) -> Point:
        """Ask for the `index`-th point of the space, for trial `number` to `begin` with."""
        return self._surviving(lambda: self._ask(number, index)) or self._ask(number, index)

    def _ask(self, number: int, index: int) -> Point:
        search = self._search
        assert search is not None, "there is nothing to ask for without a space"
        self._study.sampler = make_sampler(search.sampler, search.space, index=index)
        trial = self._study.ask()
        self._asked[number] = trial
        return suggest(trial, search.space)

    def begin(self, record: TrialRecord) -> None:
        """Start an attempt at a point just asked for, an arm, a repeat or a retry."""
        self._surviving(lambda: self._begin(record))
        if record.number not in self._running:
            self._begin(record)

    def _begin(self, record: TrialRecord) -> None:
        attributes = _attributes(record, self._last.get(record.number))
        del attributes["status"]
        trial = self._asked.pop(record.number, None)
        if trial is None:
            trial = self._add_running(self._params[record.arm], attributes)
        else:
            for name, value in attributes.items():
                trial.set_user_attr(name, value)
        self._running[record.number] = trial
        self._last[record.number] = trial.number

    def _add_running(self, params: Mapping[str, Any], attributes: Mapping[str, Any]) -> Trial:
        """Start an attempt whose params are all known, in one go and without asking a model."""
        self._study.sampler = self._quick
        self._study.enqueue_trial(dict(params), user_attrs=dict(attributes))
        return self._study.ask({name: self._space[name] for name in params})

    def report(self, number: int, step: int, value: float) -> None:
        """Record the metric at a rung; `step` is the unit in which rungs are compared."""
        self._surviving(lambda: self._report(number, step, value))

    def _report(self, number: int, step: int, value: float) -> None:
        if not self._manifest.search.get("further"):  # Optuna knows reports of a single objective only
            self._running[number].report(value, step)

    def end(self, record: TrialRecord) -> None:
        """Tell how the running attempt of `record.number` ended."""
        trial = self._running.pop(record.number)
        self._surviving(lambda: self._tell(trial, record))

    def add(self, record: TrialRecord) -> None:
        """Record an end that has no running attempt here, as of a reused result."""
        self._surviving(lambda: self._add(record, {}))

    def _add(self, record: TrialRecord, rungs: dict[int, float]) -> None:
        asked = self._asked.pop(record.number, None)
        if asked is not None:  # a point whose recipe turned out to be cooked already
            for name, value in _attributes(record).items():
                asked.set_user_attr(name, value)
            self._tell(asked, record)
            return
        means = meaning(record, self._manifest)
        params = self._params[record.arm]
        self._study.add_trial(
            create_trial(
                state=means.state,
                values=means.values,
                params=params,
                distributions={name: self._space[name] for name in params},
                user_attrs=_attributes(record),
                intermediate_values=rungs,
                constraints=means.constraints,
            )
        )

    def reconcile(self, found: Found) -> None:
        """Make the study say what the run folders say; call it before the first `begin`.

        `found` returns every trial that has a run folder, with exposures per image -> the sweep's metric; it is called
        again when the file is damaged later.
        """
        self._found = found
        by_number = {record.number: (record, rungs) for record, rungs in found()}
        self._pop_waiting()
        for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(frozen.number, state=TrialState.FAIL)  # its driver died
        told = {
            frozen.user_attrs["number"]
            for frozen in self._study.get_trials(deepcopy=False)
            if (each := by_number.get(frozen.user_attrs.get("number", -1))) is not None
            and frozen.user_attrs.get("attempt") == each[0].attempt
            and self._agrees(frozen, each[0])
        }
        for number, (record, rungs) in by_number.items():
            if record.status.is_final and number not in told:
                self._add(record, rungs)
        self._last = {
            frozen.user_attrs["number"]: frozen.number
            for frozen in self._study.get_trials(deepcopy=False)
            if "number" in frozen.user_attrs
        }

    def trials(self) -> Sequence[FrozenTrial]:
        """List all attempts, as Optuna has them."""
        return self._study.get_trials()

    def _tell(self, trial: Trial, record: TrialRecord) -> None:
        means = meaning(record, self._manifest)
        trial.set_user_attr("status", record.status.value)
        if record.spared:
            trial.set_user_attr("exempt", record.spared)
        for name, value in means.constraints.items():
            trial.set_constraint(name, value)
        self._study.tell(trial, means.values, state=means.state)

    def _agrees(self, frozen: FrozenTrial, record: TrialRecord) -> bool:
        if not record.status.is_final:
            return False
        means = meaning(record, self._manifest)
        return frozen.state == means.state and (means.values is None or tuple(frozen.values) == means.values)

    def _pop_waiting(self) -> None:
        """Fail the waiting trial that nobody wants of a driver that died between enqueueing and asking."""
        for _ in self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._study.tell(self._study.ask(), state=TrialState.FAIL)

    def _fits(self, study: Study) -> bool:
        """Tell whether the axes and the bounds that the study knows are today's."""
        if study.user_attrs.get(BOUNDS, _bounds(self._manifest)) != _bounds(self._manifest):
            return False  # what it was told of every trial is held against others now
        if self._manifest.space and self._search is None:
            return True
        return all(
            same(self._space.get(name), known)
            for frozen in study.get_trials(deepcopy=False)
            for name, known in frozen.distributions.items()
        )


def _attributes(record: TrialRecord, retry_of: int | None = None) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "number": record.number,
        "arm": record.arm,
        "seed": record.seed,
        "attempt": record.attempt,
        "run_folder": SweepFolder(Path()).run(record.number, record.arm, record.seed).path.name,
        "fingerprint": record.fingerprint,
        "status": record.status.value,
    }
    if record.exempt:
        attributes["exempt"] = record.spared or True
    return attributes if retry_of is None else {**attributes, "retry_of": retry_of}


def _bounds(manifest: Manifest) -> list[dict[str, Any]]:
    return list(manifest.search.get("constraints", ()))


def _axes(manifest: Manifest, search: Search | None) -> dict[str, BaseDistribution]:
    """Return every param that a trial can have: the axes of the space, or else the arm."""
    if search is not None:
        return distributions(search.space)
    names = tuple(dict.fromkeys(trial.arm for trial in manifest.trials))
    return {"arm": CategoricalDistribution(names)} if names and not manifest.space else {}


def open_study(path: Path, manifest: Manifest) -> Study | None:
    """Open or create; None when the file is there but is not a study that can be read.

    Raises:
        InputError: its path is longer than SQLite takes.
    """
    existed, length = path.exists(), len(os.fsencode(path.resolve()))
    if length > LONGEST_PATH:
        message = f"is a path of {length} bytes, and SQLite takes {LONGEST_PATH}"
        hint = "choose a folder with a shorter path: LORASWEEP_HOME=/some/folder"
        raise InputError(Problem(str(path), message, hint), subject="the output folder")
    damage = (SQLAlchemyError, StorageInternalError, optuna.exceptions.DuplicatedStudyError, RuntimeError, KeyError)
    try:
        study = create_study(path, manifest)
        study.get_trials(deepcopy=False)
    except damage as error:
        if not existed or is_disk_full(error):
            raise
        return None
    return study


def create_study(path: Path, manifest: Manifest) -> Study:
    """Make the study, or open the one that is there."""
    study = optuna.create_study(
        storage=_Sharing(
            URL.create("sqlite", database=str(path)).render_as_string(),  # `%` and `?` mean something there
            engine_kwargs={
                # A dashboard that reads the file may hold it for a moment.
                "connect_args": {"timeout": LOCKED_PATIENCE_S, "factory": _Unhurried}
            },
        ),
        study_name=manifest.name,
        directions=directions(manifest),
        # For what is enqueued: nothing is sampled then, and this one costs nothing.
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
    study.set_user_attr("metric", manifest.metric)
    return study


def directions(manifest: Manifest) -> list[StudyDirection]:
    """Tell which way each objective is better, the first one first."""
    goals = [manifest.goal, *(each["goal"] for each in manifest.search.get("further", ()))]
    return [StudyDirection.MINIMIZE if goal == "minimize" else StudyDirection.MAXIMIZE for goal in goals]


def same(one: BaseDistribution | None, other: BaseDistribution) -> bool:
    """Tell whether two axes are equal; Optuna's own `==` takes seconds for a thousand arms."""
    if isinstance(one, CategoricalDistribution) and isinstance(other, CategoricalDistribution):
        return one.choices == other.choices
    return one == other


class _Sharing(RDBStorage):
    """Lets all trials share one copy of each axis.

    Optuna reads an axis from the file anew for every trial, with all its choices, and keeps the trials: of a
    thousand arms that is a thousand copies of their thousand names, 60 KB for each trial. The method is Optuna's
    own affair: where a version has none of this name (`WRITTEN_FOR` has), memory grows and nothing else changes.
    """

    def __init__(self, url: str, *, engine_kwargs: dict[str, Any]) -> None:
        super().__init__(url, engine_kwargs=engine_kwargs)
        self._axes: dict[str, BaseDistribution] = {}

    def _build_frozen_trial_from_trial_model(self, trial: Any) -> FrozenTrial:
        frozen = super()._build_frozen_trial_from_trial_model(trial)
        frozen.distributions = {name: self._shared(name, axis) for name, axis in frozen.distributions.items()}
        return frozen

    def _shared(self, name: str, axis: BaseDistribution) -> BaseDistribution:
        if not same(self._axes.get(name), axis):
            self._axes[name] = axis
        return self._axes[name]


class _Unhurried(sqlite3.Connection):
    """Leaves it to the system when to write to the disk, instead of waiting for it a dozen times a trial.

    A killed process loses nothing by that; a power cut may break the file, which is then told again from the
    run folders.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.execute("PRAGMA synchronous = OFF")
