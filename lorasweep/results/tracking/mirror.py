"""Mirror sweep folders into MLflow: run folders in, a report out.

    one experiment per project, one parent run and one saved view per sweep, one child run per trial

The folders are the truth. This can be called at any time, by any process, again after any kill: what is
there is found again and only what is missing is sent. Knows nothing about how trials are trained.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from lorasweep.core.errors import LorasweepError
from lorasweep.core.records import Status, TrackingOptions
from lorasweep.core.run_folder import ADAPTER_FILE, MLFLOW_FILE, SweepFolder
from lorasweep.results import params
from lorasweep.results.tracking.address import masked
from lorasweep.results.tracking.content import RunContent
from lorasweep.results.tracking.model import model_key, push_model
from lorasweep.results.tracking.push import Pushed, Pusher
from lorasweep.results.tracking.reading import (
    SweepFiles,
    TrialFiles,
    read_sweep,
    read_trial,
    signature,
)
from lorasweep.results.tracking.store import Store, StoreUnavailable, open_store
from lorasweep.results.tracking.sweep_content import sweep_content
from lorasweep.results.tracking.sync_state import read_state
from lorasweep.results.tracking.trial_content import trial_content
from lorasweep.results.tracking.view import push_view, sweep_view

LOCK_FILE = ".mirror.lock"
LOCK_PATIENCE_S = 60.0

_log = logging.getLogger(__name__)


@dataclass
class SyncReport:
    """What a sync did.

    Attributes:
        runs: how many MLflow runs now mirror this sweep, the parent included.
        created, updated: how many of them are new, or got something new.
        problems: what could not be mirrored and why, for people; empty when the mirror is complete.
    """

    runs: int = 0
    created: int = 0
    updated: int = 0
    problems: list[str] = field(default_factory=list)

    def count(self, pushed: Pushed) -> None:
        """Add one run's push."""
        self.runs += 1
        self.created += pushed.created
        self.updated += pushed.sent and not pushed.created


def sync_sweep(sweep_folder: Path, options: TrackingOptions) -> SyncReport:
    """Mirror one sweep folder once; see `SweepMirror.sync`."""
    return SweepMirror(sweep_folder, options).sync()


def sync_all(folders: Sequence[Path]) -> dict[str, SyncReport]:
    """Mirror sweep folders; returns a report for each, by its name."""
    return {folder.name: sync_sweep(folder, _options(folder)) for folder in folders}


class SweepMirror:
    """A sweep folder and its runs in MLflow, for repeated syncs: what did not change is not read again."""

    def __init__(self, sweep_folder: Path, options: TrackingOptions) -> None:
        self._folder = sweep_folder
        self._experiment = options.experiment
        self._pusher: Pusher | None = None
        self._trials: dict[Path, TrialFiles] = {}  # as last read
        self._sent: dict[Path, tuple[TrialFiles, RunContent]] = {}
        self._context: object = None  # what decides trials' runs besides their folders
        self._modelled: set[tuple[str, str]] = set()  # models, with their runs, that are known to be there

    def sync(self) -> SyncReport:
        """Bring MLflow to what the folders say.

        Returns:
            A report; nothing is raised for a store that is down or a trial that cannot be mirrored.
        """
        report = SyncReport()
        try:
            # The lock dies with its process; a running sweep and `lorasweep sync` take turns.
            with FileLock(self._folder / LOCK_FILE, timeout=LOCK_PATIENCE_S):
                sweep = read_sweep(self._folder)
                if sweep.trials or sweep.manifest:
                    self._sync(sweep, report)
        except Timeout:
            report.problems.append("another process is mirroring this sweep right now")
        except (StoreUnavailable, OSError) as error:
            self._pusher = None  # the store is opened afresh next time
            report.problems.append(masked(str(error)))
        return report

    def _sync(self, sweep: SweepFiles, report: SyncReport) -> None:
        if self._pusher is None:
            self._pusher = Pusher(open_store(self._experiment))
        pusher, state_file = self._pusher, self._folder / MLFLOW_FILE
        pusher.store.require_same()
        with _noting("the sweep's own run", pusher.store, report):
            trials = [self._read(folder) for folder in sweep.trials]
            content = sweep_content(sweep, trials)
            # First, so that the trials can name their parent; pushed last, so that FINISHED means all of it.
            parent, created = pusher.ensure(content, state_file)
            self._sync_trials(pusher, trials, sweep, parent.run_id, report)
            pushed = pusher.push(content, state_file)
            report.count(Pushed(pushed.run_id, created, pushed.sent))
            if content.status == "FINISHED" and sweep.manifest and sweep.is_ranked(trials):
                with _noting("the best adapter", pusher.store, report):
                    self._push_best(pusher.store, sweep, trials)
            with _noting("the saved view", pusher.store, report):
                view = sweep_view(sweep, [content for _, content in self._sent.values()])
                push_view(pusher.store, view, created_ms=content.started_ms or 0)

    def _read(self, folder: Path) -> TrialFiles:
        """Read a run folder, unless it is as it was."""
        known = self._trials.get(folder)
        if known is None or known.signature != signature(folder):
            known = self._trials[folder] = read_trial(folder)
        return known

    def _sync_trials(
        self, pusher: Pusher, trials: Sequence[TrialFiles], sweep: SweepFiles, parent_id: str, report: SyncReport
    ) -> None:
        """Push each trial that has begun, unless nothing changed."""
        context = (sweep.identity, sweep.manifest, sweep.leaderboard, sweep.rated, parent_id)
        if context != self._context:
            self._sent.clear()
            self._context = context
        telling = params.telling_keys(sweep.manifest.get("arms") or ())
        for trial in trials:
            folder = trial.folder
            if folder in self._sent and self._sent[folder][0] is trial:
                report.runs += 1
            elif _has_started(trial):
                with _noting(folder.name, pusher.store, report):
                    content = trial_content(trial, sweep, telling)
                    report.count(pusher.push(content, folder / MLFLOW_FILE, parent_id=parent_id))
                    self._sent[folder] = trial, content

    def _push_best(self, store: Store, sweep: SweepFiles, trials: Sequence[TrialFiles]) -> None:
        best = next((trial for trial in trials if sweep.rank(trial.status.get("number")) == 1), None)
        state = None if best is None else read_state(best.folder / MLFLOW_FILE)
        if best is None or state is None or not (best.folder / ADAPTER_FILE).exists():
            return
        if (made := (model_key(sweep, best), state.run_id)) not in self._modelled:
            push_model(store, sweep, best, run_id=state.run_id)
            self._modelled.add(made)


def _options(sweep_folder: Path) -> TrackingOptions:
    """The tracking options that a sweep was run with: those of its first recipe."""
    for run in SweepFolder(sweep_folder).runs:
        tracking = run.recipe.get("tracking")
        if isinstance(tracking, dict):
            return TrackingOptions(**tracking)
    return TrackingOptions()


def _has_started(trial: TrialFiles) -> bool:
    """Whether a trial has a run of its own: MLflow's start times cannot be corrected later."""
    never_touched = trial.state is Status.WAITING and not trial.events
    return not never_touched or (trial.folder / MLFLOW_FILE).exists()


@contextmanager
def _noting(what: str, store: Store, report: SyncReport) -> Iterator[None]:
    """Report what goes wrong with one run and go on with the others, unless the store itself is gone."""
    try:
        yield
    except StoreUnavailable:
        raise
    except Exception as error:  # one damaged trial must not keep the others out of MLflow
        store.require_alive()
        if not isinstance(error, LorasweepError):
            _log.exception("%s could not be mirrored", what)
        report.problems.append(masked(f"{what} could not be mirrored: {error}"))
