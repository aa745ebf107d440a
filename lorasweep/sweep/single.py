"""One recipe cooked in this very process, by the rules of the engine: a sweep of one arm without a worker.

    run_trial(recipe, plan, folder) -> TrialResult

The same lock, statuses, retries, fingerprint and reuse as in a sweep, so that the same call starts a run,
continues one that was interrupted or killed, tries a failed one again, and returns at once for one that is
done; and so that `train` and `sweep` take each other's results. Knows nothing about torch, Optuna, MLflow or
the terminal.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep.core import paths, registry
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.files import write_json
from lorasweep.core.paths import require_writable
from lorasweep.core.records import Outcome, Plan, Recipe, Status, from_dict
from lorasweep.core.run_folder import (
    LOCK_FILE,
    LOG_FOLDER,
    MLFLOW_FILE,
    OWNER_FILE,
    PARENT_FILE,
    RunFolder,
    TrialRecord,
)
from lorasweep.sweep.launchers import Launcher, LaunchOptions
from lorasweep.sweep.loop import TICK_S
from lorasweep.sweep.queue import Trial, job_of
from lorasweep.sweep.ranking.announce import Mirror, MirrorReport, last_look
from lorasweep.sweep.result_cache import ResultCache
from lorasweep.sweep.retry import FAILURES, disk_full, is_disk_full, one_line, status_of_death
from lorasweep.sweep.trial_writer import TrialWriter, judge_by_today, recover, write_lost_inputs
from lorasweep.sweep.workers.lock import sweep_lock
from lorasweep.sweep.workers.stop import StopSignal
from lorasweep.sweep.workers.worker import note_end
from lorasweep.trial.judge.score import UTILITY

ARM = "train"
_EXIT_CODES = {Status.COMPLETED: 0, Status.PRUNED: 0, Status.INVALID: 2, Status.CANCELLED: 130, Status.WAITING: 130}
Report = Callable[[dict[str, Any]], bool]


class _CallersError(BaseException):
    """What hears the events failed: no crash of the recipe."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """How a call of `run_trial` ended."""

    record: TrialRecord
    cooked: bool  # by this call; otherwise it was done already, here or elsewhere
    halted: str = ""  # why it is not done, when that is not the recipe's fault
    mirrored: MirrorReport = MirrorReport()

    @property
    def exit_code(self) -> int:
        """0 when there is an answer, 2 when the recipe cannot be cooked, 130 when interrupted, else 1."""
        return 1 if self.halted else _EXIT_CODES.get(self.record.status, 1)


def run_trial(
    recipe: Recipe,
    plan: Plan,
    folder: Path,
    *,
    shown: Callable[[], AbstractContextManager[Report]],
    fresh: bool = False,
    parent: Mapping[str, Any] | None = None,
    mirror: Mirror | None = None,
    trial_module: str = "lorasweep.trial.run",
) -> TrialResult:
    """Cook one recipe in a run folder, made when missing, unless it is cooked already.

    The first Ctrl-C, SIGTERM or hang-up finishes the step and saves, the second stops at once; in the main thread.

    Args:
        recipe: what to cook.
        plan: its plan.
        folder: the run folder.
        shown: opens what shows an attempt: within, its `report` is called with every event.
        fresh: cook it though this home has already cooked it elsewhere with the same code.
        parent: what it is a variation of; kept in the run folder.
        mirror: follows the run folder.
        trial_module: has `TrialResources` and `cook`.

    Raises:
        SweepHeldError: another process cooks in this folder.
        InputError: the folder cannot be written, or holds a run of another recipe.
        Exception: whatever `report` raises; the run is CANCELLED then.
    """
    stop = StopSignal()
    require_writable(folder)
    require_writable(paths.cache("base_samples"))  # it may be somebody else's
    with stop.listening(at_once=_leave), sweep_lock(folder):
        trial = _open(recipe, plan, folder, fresh=fresh)
        if parent is not None:
            write_json(folder / PARENT_FILE, dict(parent))
        if mirror is not None:
            mirror.start()
        writer = TrialWriter(None, metric=UTILITY)
        cache = ResultCache(paths.outputs(), own=folder)
        known = None if fresh or trial.record.attempt else cache.find(plan.fingerprint, recipe)
        cooked, halted = False, ""
        elsewhere = None if trial.record.status.is_final or known else _elsewhere(recipe, folder, trial_module)
        try:
            if known is not None and not trial.record.status.is_final:
                writer.reuse_elsewhere(trial, known)
            while not (trial.record.status.is_final or stop.gently):
                cooked = True
                _attempt(trial, writer, stop, shown, trial_module, elsewhere)
        except Exception as error:
            if not is_disk_full(error):
                raise
            # The run folder is written ahead, so whatever could not be noted is seen from it next time.
            halted = disk_full(folder, one_line(error))
        finally:
            report = last_look(mirror, recipe.tracking.timeout_s, hurry=stop.now)
        return TrialResult(record=trial.record, cooked=cooked, halted=halted, mirrored=report)


def _open(recipe: Recipe, plan: Plan, folder: Path, *, fresh: bool) -> Trial:
    """Find out where the run stands; whatever failed is tried again, for the command was given again."""
    record = recover(folder, UTILITY, again=FAILURES)
    if record is not None and record.fingerprint != plan.fingerprint:
        message = "holds a run of another recipe, other images or another base"
        raise ConfigError(Problem(str(folder), message, "choose another folder"), subject="the run folder")
    if record is not None and fresh and record.reused_from:
        _forget(folder)
        record = None
    begun = record is not None
    if record is None:
        record = TrialRecord(
            number=0,
            arm=ARM,
            seed=recipe.seed,
            status=Status.WAITING,
            fingerprint=plan.fingerprint,
            steps=plan.steps,
            attempt=0,
        )
    trial = Trial(record=record, recipe=recipe, plan=plan, folder=folder, overrides=(), step=record.step)
    if begun:
        write_lost_inputs(trial)
        trial.take_results()
        judge_by_today([trial], UTILITY)
    return trial


def _attempt(
    trial: Trial,
    writer: TrialWriter,
    stop: StopSignal,
    shown: Callable[[], AbstractContextManager[Report]],
    trial_module: str,
    elsewhere: Launcher | None,
) -> None:
    """Cook until done, stopped or failed.

    Raises:
        OSError: there is no room left to write.
    """
    if elsewhere is None:
        module = importlib.import_module(trial_module)
        # Resources of its own: an error may have left an adapter in the base.
        cook = functools.partial(module.cook, trial.recipe, trial.plan, trial.folder, module.TrialResources())
    else:
        cook = functools.partial(_cook_elsewhere, trial, elsewhere)
    writer.begin(trial)
    with shown() as report:

        def heard(event: dict[str, Any]) -> bool:
            trial.note(event)
            if event["kind"] == "rung":
                writer.rung(trial)
            try:
                return report(event)
            except Exception as error:
                raise _CallersError from error

        try:
            outcome = _cooked(trial, functools.partial(cook, report=heard, should_stop=lambda: stop.gently))
        except (KeyboardInterrupt, _CallersError) as error:
            writer.end(trial, Outcome(status=Status.CANCELLED, step=trial.step, reason="stopped at once"))
            if error.__cause__ is not None:
                raise error.__cause__ from None
            return
    writer.end(trial, outcome)


def _cooked(trial: Trial, cook: Callable[[], Outcome]) -> Outcome:
    """Cook, and note how it ended; raises OSError when there is no room left to write."""
    attempt = trial.record.attempt
    try:
        return note_end(cook(), trial.folder, attempt=attempt)
    except Exception as error:
        outcome = note_end(error, trial.folder, attempt=attempt)
        if is_disk_full(error):
            raise
        return outcome


def _elsewhere(recipe: Recipe, folder: Path, trial_module: str) -> Launcher | None:
    """Return the launcher of a recipe whose worker is on another machine, which was reached; None for this process."""
    module = registry.load("launcher", recipe.launcher.name)
    if not getattr(module, "ELSEWHERE", False):
        return None
    options = LaunchOptions(
        trial_module=trial_module,
        jobs=1,
        gpus_wanted=recipe.train.device != "cpu",
        recipes=[recipe],
        log_folder=folder / LOG_FOLDER,
        launcher=recipe.launcher,
    )
    launcher: Launcher = module.build(options, **recipe.launcher.options)
    launcher.reach()
    return launcher


def _cook_elsewhere(trial: Trial, launcher: Launcher, *, report: Report, should_stop: Callable[[], bool]) -> Outcome:
    """Cook, as a trial module does, by a worker on another machine; when that goes away, by the next one there."""
    with launcher:
        while True:
            for member, message in launcher.listen(TICK_S):
                if message is None:
                    death = member.death()
                    left = RunFolder(trial.folder).outcome(attempt=trial.record.attempt) if member.job else None
                    if left is not None or not death.lost or death.for_good:
                        status = status_of_death(trial.record, starved=death.starved)
                        return left or Outcome(status=status, step=trial.step, reason=death.cause)
                    launcher.replace(member)
                elif message["kind"] == "ready":
                    trial.record = dataclasses.replace(trial.record, **vars(member.place))
                    member.job = trial
                    member.send(**job_of(trial, "cook", trial.folder))
                elif message["kind"] == "event":
                    go = report(message["event"])
                    if message["event"]["kind"] == "rung":
                        member.send(kind="verdict", go=go)
                elif message["kind"] == "outcome":
                    return from_dict(Outcome, message["outcome"])
            for member in launcher.members if should_stop() else ():
                if member.job is None:
                    return Outcome(status=Status.CANCELLED, step=trial.step, reason="stopped on request")
                member.stopping = member.stopping or member.send(kind="stop")


def _forget(folder: Path) -> None:
    """Remove what was taken from elsewhere; MLflow's run of this folder goes on."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (LOCK_FILE, OWNER_FILE, PARENT_FILE, MLFLOW_FILE):
            path.unlink()


def _leave() -> None:
    raise KeyboardInterrupt
