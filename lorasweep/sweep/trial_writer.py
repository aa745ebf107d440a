"""Writes down what happens to trials: run folder first, flushed, then the study.

Whatever is lost by dying between two of these is restored at the next start by `driver` and
`SweepStudy.reconcile`, because the run folder is always ahead. Knows nothing about workers.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.components import bases
from lorasweep.config import to_yaml
from lorasweep.core.files import link_or_copy, write_json, write_text
from lorasweep.core.printable import some
from lorasweep.core.records import Outcome, Recipe, Status, from_dict, to_dict
from lorasweep.core.run_folder import (
    ADAPTER_FILE,
    DRIVERS_FILES,
    ERROR_FILE,
    OUTCOME_FILE,
    PLAN_FILE,
    RECIPE_FILE,
    STATE_FILE,
    RunFolder,
    TrialRecord,
)
from lorasweep.plan import calibration
from lorasweep.plan.lora_files import has_files
from lorasweep.sweep.launchers import Place
from lorasweep.sweep.queue import Trial, in_exposures
from lorasweep.sweep.result_cache import Cooked
from lorasweep.sweep.retry import DRIVER_GONE, FAILURES, MEASURED, next_record
from lorasweep.sweep.workers.lock import holder, sweep_lock
from lorasweep.trial import finish
from lorasweep.trial.judge import score, verdict

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec
    from lorasweep.sweep.search.study import SweepStudy

# What belongs to a trial and not to its recipe, so that a duplicate has its own.
OWN_FILES = (*DRIVERS_FILES, OUTCOME_FILE, ERROR_FILE)
log = logging.getLogger(__name__)


class TrialWriter:
    """Every durable change of a trial goes through here."""

    def __init__(self, spec: SweepSpec, study: SweepStudy | None, *, left_out: Collection[str] = ()) -> None:
        """Collect who is told; a single run has no `study`, for no search learns from it."""
        self._study = study
        self._metric, self._left_out, self._constraints = spec.metric, left_out, spec.constraints
        self._also = [each.name for each in spec.further] + [each.metric for each in spec.constraints]

    def begin(self, trial: Trial, place: Place | None = None) -> None:
        """Write ahead: after this the trial may be handed to a worker, which is at `place`."""
        place = place or Place()
        record = dataclasses.replace(
            trial.record,
            status=Status.RUNNING,
            attempt=trial.record.attempt + 1,
            reason="",
            node=place.node,
            device=place.device,
            started_at=trial.record.started_at or time.time(),
            ended_at=None,
        )
        trial.folder.mkdir(parents=True, exist_ok=True)
        (trial.folder / OUTCOME_FILE).unlink(missing_ok=True)
        _write_inputs(trial)
        self._write(trial, record)
        if self._study is not None:
            self._study.begin(record)

    def rung(self, trial: Trial) -> None:
        """Note a rung and, when it was measured there, the sweep's metric."""
        # It got further than before, so whatever crashed it was not waiting at one place: count afresh.
        # A power cut may take the note back: the trial then continues as if it had come a moment earlier.
        self._write(trial, dataclasses.replace(trial.record, step=trial.step, crashes=0), durable=False)
        value = score.without(trial.metrics, self._left_out).get(self._metric)
        at = [in_exposures(exposures) for exposures in trial.rungs]
        # In a budget of a few steps two rungs may be less than one exposure apart: the first one counts.
        if self._study is not None and value is not None and at.count(at[-1]) == 1:
            self._study.report(trial.number, at[-1], value)

    def end(self, trial: Trial, outcome: Outcome) -> None:
        """Note the end of an attempt; the trial is WAITING afterwards when it will be cooked again."""
        ended = _next_record(trial.record, outcome, self._metric, self._left_out)
        record = self._measured(ended, outcome.metrics)
        self._write(trial, record)
        if self._study is not None:  # to Optuna an attempt that will be repeated is over all the same
            self._study.end(dataclasses.replace(record, status=outcome.status))

    def look_again(self, trial: Trial) -> None:
        """Hold a completed trial against today's bounds: those were edited, or its end was noted by nobody."""
        record = trial.record
        if record.status is Status.COMPLETED:
            before = record.reason.removesuffix(record.broken).removesuffix("; ") if record.broken else record.reason
            now = self._measured(dataclasses.replace(record, reason=before), trial.metrics)
            if now != record:
                self._write(trial, now)

    def invalid(self, trial: Trial) -> None:
        """Note that a trial's point makes no recipe, so that it is not asked again."""
        write_invalid(trial)
        if self._study is not None:
            self._study.add(trial.record)

    def reuse(self, duplicate: Trial, original: Trial) -> None:
        """Give a trial the results of the identical recipe that was cooked under another name."""
        self._adopt(duplicate, original.folder, original.record, cooked_as=original.folder.name)
        duplicate.loss = original.loss

    def reuse_elsewhere(self, trial: Trial, cooked: Cooked) -> None:
        """Give a trial the results of the identical recipe that another sweep has cooked."""
        ended = _next_record(cooked.record, cooked.outcome(), self._metric, self._left_out)
        self._adopt(trial, cooked.folder, ended, cooked_as=cooked.name)

    def _adopt(self, trial: Trial, folder: Path, ended: TrialRecord, *, cooked_as: str) -> None:
        trial.folder.mkdir(parents=True, exist_ok=True)
        ignored = shutil.ignore_patterns(*OWN_FILES)
        shutil.copytree(folder, trial.folder, ignore=ignored, copy_function=link_or_copy, dirs_exist_ok=True)
        _write_inputs(trial)
        trial.take_results()
        reason = f"the same recipe, seed and images as {cooked_as}: its results are reused"
        now = time.time()
        record = dataclasses.replace(
            trial.record,
            status=ended.status,
            step=ended.step,
            value=ended.value,
            reason=f"{reason} ({ended.reason})" if ended.reason else reason,
            reused_from=cooked_as,
            started_at=now,
            ended_at=now,
        )
        self._write(trial, self._measured(record, trial.metrics))
        if self._study is not None:
            self._study.add(trial.record)

    def _measured(self, record: TrialRecord, metrics: Mapping[str, float]) -> TrialRecord:
        """Note what the study is told besides the metric, and which bounds are broken."""
        metrics = score.without(metrics, self._left_out)
        measured = {name: metrics[name] for name in self._also if name in metrics}
        if record.status is not Status.COMPLETED:
            return dataclasses.replace(record, measured=measured)
        broken = [
            f"{each} is broken: {f'{value:.3f}' if value is not None else 'not measured'}"
            for each in self._constraints
            if (value := measured.get(each.metric)) is None or each.violation(value) > 0
        ]
        reason = "; ".join([record.reason, *broken] if record.reason else broken)
        return dataclasses.replace(record, measured=measured, broken="; ".join(broken), reason=reason)

    def _write(self, trial: Trial, record: TrialRecord, *, durable: bool = True) -> None:
        RunFolder(trial.folder).write_record(record, durable=durable)
        trial.record = record


def _next_record(record: TrialRecord, outcome: Outcome, metric: str, left_out: Collection[str]) -> TrialRecord:
    compared = dataclasses.replace(outcome, metrics=score.without(outcome.metrics, left_out))
    return next_record(record, compared, metric=metric, now_s=time.time())


def recover(
    run_folder: Path, metric: str, *, left_out: Collection[str] = (), again: Collection[Status] = (Status.CRASHED,)
) -> TrialRecord | None:
    """Read where a trial stands, when nobody drives it any more, and note an end that nobody noted; None: never begun.

    `metric` is the sweep's, measured without the symptoms in `left_out`; after an end in `again` it is cooked again,
    since the command was given again: a crash says more about the machine than about the recipe. So does any failure
    where there is a result: it was completed before, and failed while it was judged anew. What was completed and has
    lost its result is cooked again from its last checkpoint, or anew; its adapter is one of its checkpoints'.
    """
    run = RunFolder(run_folder)
    record = run.record
    if record is None:
        return None
    if record.status is Status.RUNNING:
        outcome = run.outcome(attempt=record.attempt)
        if outcome is not None:
            record = _next_record(record, outcome, metric, left_out)
            run.write_record(record)
    if record.status in again or (record.status in FAILURES and run.result["verdict"]):
        record = dataclasses.replace(record, status=Status.WAITING)
    if record.status is Status.COMPLETED and (lost := run.lost):
        if lost == ADAPTER_FILE:
            finish.keep(run, run.result["step"])
        else:
            log.warning("%s has lost its %s: it is cooked again, from a checkpoint if one is left", run_folder, lost)
            record = dataclasses.replace(record, status=Status.WAITING)
    return record if record.status.is_final else dataclasses.replace(record, crashes=0)


def judge_by_today(trials: Iterable[Trial], metric: str, *, left_out: Collection[str] = ()) -> None:
    """Score what trials have measured by today's limits; those completed by others WAIT to choose a checkpoint anew.

    That trains nothing: it goes on from its last rung, which is judged, and its worker scores the rungs in its folder.
    Without its checkpoints it stays, and that is said. What was pruned by the numbers of then is not reopened, but says
    what it is worth by those of today, of which `metric` is the sweep's, measured without the symptoms in `left_out`.
    """
    stay = [trial.folder.name for trial in trials if not _judged_by_today(trial, metric, left_out)]
    if stay:
        why = "checkpoints are gone or damaged, or do not travel (launcher.ship)"
        log.warning("judged by other limits than today's, and so for good, for %s: %s", why, some(stay))


def _judged_by_today(trial: Trial, metric: str, left_out: Collection[str]) -> bool:
    """Do so with one, and tell whether it could be done."""
    record, run = trial.record, RunFolder(trial.folder)
    judged_by = trial.verdict.get("calibration") if record.status in MEASURED else ""
    if trial.recipe is None or judged_by is None:
        return True
    chosen = calibration.find(trial.recipe, bases.fingerprint(trial.recipe))
    if judged_by == chosen.calibration.digest:
        return True
    rungs = verdict.rescored(run.rungs(), chosen.calibration)
    trial.rungs = {row["exposures_per_image"]: row["metrics"] for row in rungs}
    if record.status is Status.PRUNED:
        if not _are_there(run, [rung["step"] for rung in rungs], trained=False):
            return False
        scored = finish.rescore(run, chosen.calibration, until=record.step)
        found = finish.write(trial.folder, trial.recipe, scored, None, chosen)
        value = score.without(found.values, left_out).get(metric)
        trial.record = dataclasses.replace(record, value=value)
        run.write_record(trial.record)
        trial.take_results()
    elif record.status is Status.COMPLETED:
        assert trial.plan is not None, "it was cooked"
        trained = not has_files(trial.recipe)
        at_home = not trained or trial.recipe.launcher.options.get("ship", "state") == "state"
        if not at_home or not _are_there(run, trial.plan.rungs, trained=trained):
            return False
        trial.record = dataclasses.replace(record, status=Status.WAITING)
    return True


def _are_there(run: RunFolder, rungs: Sequence[int], *, trained: bool) -> bool:
    """Tell whether all rungs' weights are at hand and, where it `trained`, what goes on from the last of them."""
    there = [run.weights(rung) for rung in rungs]
    there += [file.with_name(STATE_FILE) for file in there[-1:] if trained]
    return bool(there) and all(file.exists() for file in there) and not run.damage(rungs, trained=trained)


def settle(held: Path, run_folders: Iterable[Path], *, metric: str, left_out: Collection[str] = ()) -> None:
    """Write down that trials are over whose driver, which locks `held`, is gone; nothing while there is one."""
    gone = [folder for folder in run_folders if _is_running(folder)]
    if not gone or holder(held) is not None:
        return
    with sweep_lock(held):
        for folder in filter(_is_running, gone):
            record = recover(folder, metric, left_out=left_out, again=())
            if record is not None and record.status is Status.RUNNING:
                RunFolder(folder).write_record(dataclasses.replace(record, status=Status.CANCELLED, reason=DRIVER_GONE))


def _is_running(run_folder: Path) -> bool:
    record = RunFolder(run_folder).record
    return record is not None and record.status is Status.RUNNING


def write_lost_inputs(trial: Trial) -> None:
    """Write again what is cooked where the run folder of a trial that was begun does not say it any more."""
    run = RunFolder(trial.folder)
    if trial.recipe is None or run.record is None:
        return
    end = to_yaml({"launcher": trial.recipe.launcher})  # to parse thousands of whole ones takes long
    try:
        if not (run.path / RECIPE_FILE).read_text(encoding="utf-8").endswith(end):
            from_dict(Recipe, run.recipe)
        is_lost = not run.plan
    except (OSError, ValueError):
        is_lost = True
    if is_lost:
        _write_inputs(trial)


def _write_inputs(trial: Trial) -> None:
    """Write what is cooked; status.json, written after it, makes these files durable with itself."""
    write_text(trial.folder / RECIPE_FILE, to_yaml(trial.recipe), durable=False)
    write_json(trial.folder / PLAN_FILE, to_dict(trial.plan), durable=False)


def write_invalid(trial: Trial) -> None:
    """Write down that a trial is INVALID; there is nothing else to its run folder."""
    trial.folder.mkdir(parents=True, exist_ok=True)
    RunFolder(trial.folder).write_record(trial.record)
