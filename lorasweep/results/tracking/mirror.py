"""Mirror sweep folders into MLflow: run folders in, a report out.

    one experiment per project, one parent run and one saved view per sweep, one child run per trial; of a finished
    sweep the best adapter as a logged model: adapter, recipe, metrics

The folders are the truth. This can be called at any time, by any process, again after any kill: what is
there is found again and only what is missing is sent. `mlflow.pyfunc` draws with a model through
`lorasweep.results.mlflow_model`, whatever kind of adapter it is (MLflow's own flavour for diffusers knows LoRA only,
and loads the base to log it). It is saved here and sent by the client, since `log_model` changes the tracking address
of the whole process and opens the run again. Knows nothing about how trials are trained.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

import lorasweep
from lorasweep.core.errors import InputError, LorasweepError
from lorasweep.core.records import Status, TrackingOptions, from_dict
from lorasweep.core.run_folder import ADAPTER_FILE, MIRROR_LOCK_FILE, MLFLOW_FILE, RECIPE_FILE, RESULT_FILE, SweepFolder
from lorasweep.results import params
from lorasweep.results.tracking import notes
from lorasweep.results.tracking.address import masked
from lorasweep.results.tracking.content import FINAL, HEADLINE, Point, RunContent, points, trial_content, trial_key
from lorasweep.results.tracking.push import Pushed, Pusher, read_state
from lorasweep.results.tracking.reading import (
    SweepFiles,
    TrialFiles,
    read_sweep,
    read_trial,
    signature,
)
from lorasweep.results.tracking.store import Store, StoreUnavailable, open_store
from lorasweep.results.tracking.sweep_content import sweep_content
from lorasweep.results.tracking.view import push_view, sweep_view

if TYPE_CHECKING:
    from mlflow.models import ModelSignature


LOCK_PATIENCE_S = 60.0

_log = logging.getLogger(__name__)
KEY_TAG = "lorasweep.key"
DOCUMENTS = (ADAPTER_FILE, RECIPE_FILE, RESULT_FILE)
DATA = "lora"  # the folder of these among the model's files
MODEL_TYPE = "lora adapter"
LOADER = "lorasweep.results.mlflow_model"


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


def sync_folder(sweep_folder: Path) -> SyncReport:
    """Mirror one sweep folder once, with the tracking options that it was run with: those of its first recipe."""
    recorded = (run.recipe.get("tracking") for run in SweepFolder(sweep_folder).runs)
    options = next((each for each in recorded if isinstance(each, dict)), {})
    known = {each.name: options[each.name] for each in fields(TrackingOptions) if each.name in options}
    try:
        tracking = from_dict(TrackingOptions, known)
    except ValueError as error:
        return SyncReport(problems=[f"its recipes do not say where it is mirrored: {error}"])
    return sync_sweep(sweep_folder, tracking)


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
        """Bring MLflow to what the folders say; what does not fit, or a store that is down, is reported, not raised."""
        report = SyncReport()
        try:
            # The lock dies with its process; a running sweep and `lorasweep sync` take turns.
            with FileLock(self._folder / MIRROR_LOCK_FILE, timeout=LOCK_PATIENCE_S):
                sweep = read_sweep(self._folder)
                if sweep.trials or sweep.manifest:
                    self._sync(sweep, report)
        except Timeout:
            report.problems.append("another process is mirroring this sweep right now")
        except InputError as error:
            report.problems += [f"{each.where} {each.message}" for each in error.problems]
        except (StoreUnavailable, OSError) as error:
            self._pusher = None  # the store is opened afresh next time
            told = str(error)
            if isinstance(error, OSError) and error.filename:  # of a disk, not of a server
                told = f"{error.filename} cannot be written: {error.strerror}; sync where it can be"
            report.problems.append(masked(told))
        return report

    def _sync(self, sweep: SweepFiles, report: SyncReport) -> None:
        if self._pusher is None:
            self._pusher = Pusher(open_store(self._experiment))
        pusher, state_file = self._pusher, self._folder / MLFLOW_FILE
        pusher.store.require_same()
        with _noting("the sweep's own run", pusher.store, report):
            trials = [self._read(folder) for folder in sweep.trials]
            report.problems += filter(None, [sweep.damage, *(trial.damage for trial in trials)])
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
                view = sweep_view(sweep, parent.run_id, [content for _, content in self._sent.values()])
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


def _has_started(trial: TrialFiles) -> bool:
    """Tell whether a trial has a run of its own: MLflow's start times cannot be corrected later."""
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


def push_model(store: Store, sweep: SweepFiles, best: TrialFiles, *, run_id: str) -> None:
    """Log the adapter of a sweep's best trial under that trial's run, unless it is there.

    One that a kill left half sent is not READY, and one of a run that was made anew names the old run: both are
    made again.
    """
    client, key = store.client, model_key(sweep, best)
    held = client.search_logged_models(
        [store.experiment_id], filter_string=f"tags.`{KEY_TAG}` = '{key}'", max_results=10
    )
    if any(str(model.status) == "READY" and model.source_run_id == run_id for model in held):
        return
    for stale in held:
        client.delete_logged_model(stale.model_id)
    name = f"{sweep.name}/{best.folder.name}"
    sentence, trigger = str(best.verdict.get("sentence", "")), str(best.plan.get("trigger") or "")
    model = client.create_logged_model(
        store.experiment_id,
        name=re.sub(r"[/:.%\"']", "-", f"{sweep.name}-best"),  # what MLflow refuses there
        source_run_id=run_id,
        tags={
            KEY_TAG: key,
            "lorasweep.sweep": sweep.name,
            "lorasweep.trial": best.folder.name,
            "mlflow.note.content": notes.model_note(name, sentence=sentence, trigger=trigger),
        },
        params={key: str(value) for key, value in ((best.recipe.get("adapter") or {}).get("options") or {}).items()},
        model_type=MODEL_TYPE,
    )
    with tempfile.TemporaryDirectory() as folder:
        save(best, name, Path(folder) / "model", model_id=model.model_id, run_id=run_id)
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    told = (sweep.manifest.get("metric"), *HEADLINE)
    shown = [point for point in points(best).get(FINAL, ()) if point.key in told]
    _join(store, shown, model_id=model.model_id, run_id=run_id)
    client.finalize_logged_model(model.model_id, "READY")


def model_key(sweep: SweepFiles, best: TrialFiles) -> str:
    """Say which trial and which weights; a model with this key is not logged twice."""
    return f"{trial_key(sweep, best)}/{best.status.get('fingerprint')}"


def save(best: TrialFiles, name: str, folder: Path, *, model_id: str, run_id: str) -> None:
    """Write the folder that MLflow loads the model of trial `name` (SWEEP/TRIAL) from; the ids are MLflow's."""
    import mlflow.pyfunc
    from mlflow.models import Model

    adapter, base, sampling = (best.recipe.get(group) or {} for group in ("adapter", "base", "sample"))
    told = {
        "adapter": adapter.get("name"),
        "base": base.get("path") or base.get("name"),
        "file": f"data/{DATA}/{ADAPTER_FILE}",
        "weight": sampling.get("weight"),
        "seed": next(iter(sampling.get("seeds") or ()), None),
        "trigger": best.plan.get("trigger"),
        "trial": name,
    }
    flavor = {key: value for key, value in told.items() if value is not None}
    described = Model(model_id=model_id, run_id=run_id, signature=_signature(flavor))
    described.add_flavor("lorasweep", **flavor)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / DATA
        data.mkdir()
        for document in DOCUMENTS:
            if (best.folder / document).exists():
                shutil.copy(best.folder / document, data)
        mlflow.pyfunc.save_model(
            str(folder),
            mlflow_model=described,
            loader_module=LOADER,
            data_path=str(data),
            pip_requirements=[f"lorasweep=={lorasweep.__version__}"],
        )


def _signature(flavor: Mapping[str, Any]) -> ModelSignature | None:
    """Return what `predict` takes beside prompts; MLflow drops params that no signature names."""
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec

    types = {"weight": "double", "seed": "long"}
    params = [ParamSpec(name, kind, flavor[name]) for name, kind in types.items() if name in flavor]
    return ModelSignature(params=ParamSchema(params)) if params else None


def _join(store: Store, shown: Sequence[Point], *, model_id: str, run_id: str) -> None:
    """Show the model on its run, and the run's numbers on the model; MLflow drops what it has already."""
    from mlflow.entities import LoggedModelOutput, Metric

    store.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    metrics = [
        Metric(point.key, point.value, point.time_ms, point.step, model_id=model_id, run_id=run_id) for point in shown
    ]
    if metrics:
        store.client.log_batch(run_id, metrics=metrics)
