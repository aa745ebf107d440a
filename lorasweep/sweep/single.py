"""One recipe: a sweep of one arm, without a manifest, a study and a leaderboard, cooked in this very process.

    run_trial(recipe, plan, folder) -> TrialResult

The sweep's own loop runs it, so that the same call starts a run, continues one that was interrupted or killed,
tries a failed one again, and returns at once for one that is done; and so that `train` and `sweep` take each
other's results. Knows nothing about torch, Optuna, MLflow or the terminal.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep.config import Arm, SweepSpec
from lorasweep.core import paths, registry
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.files import write_json
from lorasweep.core.paths import require_writable
from lorasweep.core.records import Plan, Recipe, Status
from lorasweep.core.run_folder import LOCK_FILE, MLFLOW_FILE, OWNER_FILE, PARENT_FILE, SweepFolder, TrialRecord
from lorasweep.sweep.driver import launch_options, recipe_factory
from lorasweep.sweep.launchers import Launcher
from lorasweep.sweep.loop import SweepLoop
from lorasweep.sweep.manifest import declare
from lorasweep.sweep.queue import Trial
from lorasweep.sweep.ranking.announce import Announcer, Mirror, MirrorReport, last_look
from lorasweep.sweep.result_cache import ResultCache
from lorasweep.sweep.retry import FAILURES
from lorasweep.sweep.trial_writer import judge_by_today, recover, write_lost_inputs
from lorasweep.sweep.trials import Composed, TrialSource, new_trial
from lorasweep.sweep.workers.here import ThisProcess
from lorasweep.sweep.workers.lock import sweep_lock
from lorasweep.sweep.workers.stop import StopSignal
from lorasweep.trial.judge.score import UTILITY

ARM = "train"
_EXIT_CODES = {Status.COMPLETED: 0, Status.PRUNED: 0, Status.INVALID: 2, Status.CANCELLED: 130, Status.WAITING: 130}
Report = Callable[[dict[str, Any]], bool]


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
        shown: opens what shows it, once it is begun; within, its `report` is called with every event.
        fresh: cook it though this home has already cooked it elsewhere with the same code.
        parent: what it is a variation of; kept in the run folder.
        mirror: follows the run folder.
        trial_module: has `TrialResources`, `cooking` and `train`.

    Raises:
        SweepHeldError: another process cooks in this folder.
        InputError: the folder cannot be written, or holds a run of another recipe, or runs.
        BaseException: whatever `report` raises; the run is CANCELLED then.
    """
    stop = StopSignal()
    require_writable(folder)
    require_writable(paths.cache("base_samples"))  # it may be somebody else's
    with stop.listening(), sweep_lock(folder), ExitStack() as shows:
        spec = _sweep_of(recipe)
        trial = _open(spec, plan, folder, fresh=fresh)
        if parent is not None:
            write_json(folder / PARENT_FILE, dict(parent))
        source = TrialSource(spec, folder, declare(spec, {ARM: plan}), [trial], None, recipe_factory(spec))
        announcer = _Shown(source, stop, functools.cache(lambda: shows.enter_context(shown())))
        cache = None if fresh else ResultCache(paths.outputs(), own=folder)
        loop = SweepLoop(source, announcer, stop, cache=cache, repeats=None)
        options = launch_options(source, trial_module, further=False)
        module = registry.load("launcher", recipe.launcher.name)
        launcher: Launcher = ThisProcess(options, stop, loop.hear)
        if getattr(module, "ELSEWHERE", False):
            launcher = module.build(options, **recipe.launcher.options)
        if mirror is not None:
            mirror.start()
        begun = trial.record.attempt
        try:
            loop.run(launcher)
        finally:
            report = last_look(mirror, recipe.tracking.timeout_s, hurry=stop.now and announcer.error is None)
        if announcer.error is not None:
            raise announcer.error
        cooked = trial.record.attempt > begun
        return TrialResult(record=trial.record, cooked=cooked, halted=loop.halted, mirrored=report)


class _Shown(Announcer):
    """Tells of a single run's events; nothing of it is ranked."""

    def __init__(self, source: TrialSource, stop: StopSignal, shown: Callable[[], Report]) -> None:
        super().__init__(source, stop)
        self._shown = shown

    def changed(self, activity: str) -> None:
        """Show it once it is begun."""
        if self._source.trials[0].record.status is Status.RUNNING:
            self._shown()

    def heard(self, event: dict[str, Any]) -> bool:
        """Tell of an event."""
        return self._call(lambda: self._shown()(event)) is not False

    def trial_ended(self, trial: Trial) -> None:
        """Leave it to the run folder."""


def _sweep_of(recipe: Recipe) -> SweepSpec:
    """Make the sweep of one arm."""
    return SweepSpec(
        name=ARM,
        question="",
        metric=UTILITY,
        goal="maximize",
        worst=0.0,
        seeds=(recipe.seed,),
        arms=(Arm(name=ARM, note="", overrides=(), recipe=recipe),),
        launcher=recipe.launcher,
        tracking=recipe.tracking,
    )


def _open(spec: SweepSpec, plan: Plan, folder: Path, *, fresh: bool) -> Trial:
    """Find out where the run stands; whatever failed is tried again, for the command was given again."""
    if SweepFolder(folder).exists:
        told = Problem(str(folder), "is the folder of a sweep, or of several runs", f"a new one, as {folder / 'first'}")
        raise ConfigError(told, subject="the run folder")
    record = recover(folder, UTILITY, again=FAILURES)
    if record is not None and record.fingerprint != plan.fingerprint:
        message = "holds a run of another recipe, other images or another base"
        raise ConfigError(Problem(str(folder), message, "choose another folder"), subject="the run folder")
    if record is not None and fresh and record.reused_from:
        _forget(folder)
        record = None
    recipe = spec.arms[0].recipe
    trial = new_trial(spec, folder, 0, ARM, recipe.seed, Composed(recipe, plan), ())
    trial.folder = folder
    if record is not None:
        trial.record, trial.step = record, record.step
        write_lost_inputs(trial)
        trial.take_results()
        judge_by_today([trial], UTILITY)
    return trial


def _forget(folder: Path) -> None:
    """Remove what was taken from elsewhere; MLflow's run of this folder goes on."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (LOCK_FILE, OWNER_FILE, PARENT_FILE, MLFLOW_FILE):
            path.unlink()
