"""The driver of a sweep: opens it, lets its loop run, and closes it, whatever happens in between.

    run_sweep(spec, plans, folder=...) -> SweepResult

The same call starts a sweep, continues one that was interrupted or killed, tries crashed trials again, and
returns at once for one that is done. Before any worker starts, manifest, run folders and study are brought to
agree; an attempt that ended while nobody was there to note it is noted then. What happens while workers are alive
is in `loop`. Knows nothing about torch, MLflow or what a recipe is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from lorasweep.config import SweepSpec, compose_recipe
from lorasweep.core import once, paths, registry
from lorasweep.core.errors import ConfigError, LorasweepError, Problem
from lorasweep.core.files import write_json
from lorasweep.core.paths import require_writable
from lorasweep.core.records import Plan, Recipe, Status
from lorasweep.core.run_folder import LOG_FOLDER, TIMING_FILE, SweepFolder, folders_in
from lorasweep.plan import make_plan
from lorasweep.plan.changed import images_since
from lorasweep.sweep.launchers import LaunchOptions
from lorasweep.sweep.loop import SweepLoop
from lorasweep.sweep.manifest import Manifest, declare, read_manifest, write_manifest
from lorasweep.sweep.queue import Trial, in_exposures
from lorasweep.sweep.ranking.announce import Announcer, Mirror, MirrorReport, last_look
from lorasweep.sweep.ranking.noise import CONTENDERS
from lorasweep.sweep.ranking.state import SweepState, read_state
from lorasweep.sweep.result_cache import ResultCache
from lorasweep.sweep.retry import FAILURES, disk_full, is_disk_full, one_line
from lorasweep.sweep.search.study import SweepStudy
from lorasweep.sweep.trial_writer import TrialWriter, judge_by_today, recover, write_invalid, write_lost_inputs
from lorasweep.sweep.trials import Compose, Composed, TrialSource, compose_point, new_trial
from lorasweep.sweep.workers.lock import sweep_lock
from lorasweep.sweep.workers.stop import StopSignal
from lorasweep.trial.judge import score


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """How a call of `run_sweep` ended."""

    state: SweepState
    interrupted: bool = False
    halted: str = ""  # why the rest was not cooked, when it was not for a person's wish
    mirrored: MirrorReport = MirrorReport()

    @property
    def exit_code(self) -> int:
        """130 interrupted; 1 when a trial failed or was not cooked; 0 when every arm has its answer.

        A recipe that diverged was answered, and so was a point of a space that makes no recipe, if others do.
        """
        if self.interrupted:
            return 130
        begun = [trial for trial in self.state.trials if trial.attempt or trial.status is not Status.INVALID]
        failed = any(trial.status in FAILURES or not trial.status.is_final for trial in begun)
        return 1 if self.halted or failed or not begun else 0


def run_sweep(
    spec: SweepSpec,
    plans: Mapping[str, Plan],
    *,
    folder: Path,
    extend: bool = False,
    trial_module: str = "lorasweep.trial.run",
    compose: Compose | None = None,
    repeats: int | None = None,
    fresh: bool = False,
    judge_anew: bool = True,
    estimated_s: float | None = None,
    on_change: Callable[[SweepState], None] | None = None,
    on_trial_end: Callable[[], object] | None = None,
    on_end: Callable[[], object] | None = None,
    mirror: Mirror | None = None,
    stop: StopSignal | None = None,
) -> SweepResult:
    """Cook every declared trial that is not finished yet.

    Args:
        spec: what to cook.
        plans: one plan per arm.
        folder: the sweep's folder; made when missing.
        extend: allow arms and seeds that the folder's earlier declaration did not have.
        compose: turns the overrides of a point of the space into its recipe and plan.
        repeats: afterwards, cook arms again with up to so many further seeds each, where that helps to tell
            the best one from the others, until it is known; None: cook what is declared and no more.
        fresh: cook also what this home has already cooked elsewhere with the same code.
        judge_anew: judge by today's limits what was completed by others, from its checkpoints, training nothing.
        trial_module: where workers find `TrialResources`, `cooking`, `train` and `draw_base_samples`.
        estimated_s: how long it is expected to take, to be compared with how long it took.
        on_change: called with a snapshot several times a second.
        on_trial_end: called whenever a trial ended for good, at least once; its errors are noted and stop nothing.
        on_end: called once when this call ends, before the mirror is given its last look; errors as above.
        mirror: follows the run folders.
        stop: how the caller asks to stop; None: SIGINT, SIGTERM and SIGHUP do, in the main thread.

    Raises:
        SweepHeldError: another driver has this sweep.
        InputError: the folder cannot be written, or holds trials that this declaration would contradict.
        ConfigError: a machine that workers should live on cannot be used, or the name is another sweep's.
        BaseException: whatever `on_change` raises; what was being cooked is CANCELLED then.
    """
    listening = stop is None
    stop = stop or StopSignal()
    require_writable(folder)
    require_writable(paths.cache("base_samples"))  # it may be somebody else's
    _require_own_name(folder)
    with stop.listening() if listening else nullcontext(), sweep_lock(folder):
        compose = compose or recipe_factory(spec)
        source = open_sweep(spec, plans, folder, extend=extend, compose=compose, judge_anew=judge_anew)
        announcer = Announcer(source, stop, on_change=on_change, on_trial_end=on_trial_end, on_end=on_end)
        if count := _to_judge_anew(source.trials):
            announcer.note(f"finished trials that are judged anew, from their checkpoints: {count}")
        cache = None if fresh else ResultCache(folder.parent, own=folder)
        stopwatch = Stopwatch(folder, estimated_s)
        options = launch_options(source, trial_module, further=repeats is not None)
        launcher = registry.load("launcher", spec.launcher.name).build(options, **spec.launcher.options)
        if not source.done:
            launcher.reach()
        loop = SweepLoop(source, announcer, stop, cache=cache, repeats=repeats)
        if mirror is not None:
            mirror.start()
        try:
            loop.run(launcher)
        finally:
            with suppress(OSError):  # a full disk: both follow from what is written elsewhere
                stopwatch.stop(done=source.done)
                if spec.search is not None or spec.pruner.active:
                    loop.gate.write_summary(folder, source.trials)
            announcer.close()  # the report tells of both
            report = last_look(mirror, spec.tracking.timeout_s, hurry=stop.now and announcer.error is None)
        if announcer.error is not None:
            raise announcer.error
    state = read_state(folder)  # nobody cooks any more, whatever could not be noted
    return SweepResult(
        state=state,
        interrupted=stop.gently and not source.done,
        halted=loop.halted,
        mirrored=report,
    )


def _require_own_name(folder: Path) -> None:
    """Refuse a folder that is another sweep's: macOS and Windows do not tell capitals in names apart."""
    for other in folders_in(folder.parent):
        if other.name != folder.name and other.name.lower() == folder.name.lower() and other.samefile(folder):
            message = f"`{folder.name}` is the folder of sweep `{other.name}` here, where capitals are not told apart"
            raise ConfigError(Problem("sweep.name", message, f"sweep.name={other.name}, or another name"))


@once.shared()
def open_sweep(
    spec: SweepSpec, plans: Mapping[str, Plan], folder: Path, *, extend: bool, compose: Compose, judge_anew: bool
) -> TrialSource:
    """Bring manifest, run folders and study to agree; the arguments are those of `run_sweep`.

    Raises:
        ConfigError: trials were cooked from something else than is declared now.
        LorasweepError: there is no room to write them.
    """
    try:
        previous = read_manifest(folder)
        declared = () if previous is None else previous.trials
        runs = {(each.arm, each.seed): SweepFolder(folder).run(each.number, each.arm, each.seed) for each in declared}
        cooked = frozenset(pair for pair, run in runs.items() if run.record is not None)
        recorded = {arm: runs[arm, seed] for arm, seed in cooked}
        manifest = declare(
            spec,
            plans,
            previous=previous,
            cooked=cooked,
            extend=extend,
            changed=lambda arm: images_since(recorded[arm].plan, plans[arm]),
        )
        trials = _load_trials(folder, spec, plans, manifest, compose, judge_anew=judge_anew)
        write_manifest(folder, manifest)
        study = SweepStudy(folder, manifest, spec.search, outdated=_to_judge_anew(trials) > 0)
        study.reconcile(
            lambda: [(trial.record, _reported(trial, spec, manifest)) for trial in trials if trial.folder.exists()]
        )
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise LorasweepError(disk_full(folder, one_line(error))) from error
    return TrialSource(spec, folder, manifest, trials, study, compose)


def recipe_factory(spec: SweepSpec) -> Compose:
    """Make what turns a point of the space into a recipe and a plan."""

    def compose(overrides: Sequence[str]) -> tuple[Recipe, Plan]:
        common, more = ((), ()) if spec.search is None else (spec.search.common, spec.search.overrides)
        recipe = compose_recipe(common, overrides, more)
        return recipe, make_plan(recipe)

    return compose


def launch_options(source: TrialSource, trial_module: str, *, further: bool) -> LaunchOptions:
    """Say what one call needs; `further`: repeats may be added once the trials known so far are cooked."""
    spec = source.spec
    jobs = len({trial.record.fingerprint for trial in source.trials if not trial.record.status.is_final})
    jobs += max(0, spec.total - len(source.trials))  # points not asked for yet
    return LaunchOptions(
        trial_module=trial_module,
        jobs=max(jobs, 1 + CONTENDERS) if further else jobs,
        gpus_wanted=any(arm.recipe.train.device != "cpu" for arm in spec.known),
        recipes=[arm.recipe for arm in spec.known],
        learns=spec.learns,
        log_folder=source.folder / LOG_FOLDER,
        launcher=spec.launcher,
    )


def _load_trials(
    sweep_folder: Path,
    spec: SweepSpec,
    plans: Mapping[str, Plan],
    manifest: Manifest,
    compose: Compose,
    *,
    judge_anew: bool,
) -> list[Trial]:
    """Build the driver's trials from what is declared, what was asked for since, and what is on disk."""
    composed = {arm.name: Composed(arm.recipe, plans[arm.name]) for arm in spec.arms}
    overrides = {arm.name: tuple(arm.overrides) for arm in manifest.arms}
    trials, strangers = [], []
    for declared in manifest.trials:
        arm = declared.arm
        if arm not in composed:
            composed[arm] = compose_point(compose, overrides[arm])
        trial = new_trial(spec, sweep_folder, declared.number, arm, declared.seed, composed[arm], overrides[arm])
        record = recover(trial.folder, manifest.metric, left_out=manifest.left_out)
        if record is None:
            if trial.record.status is Status.INVALID:  # its driver died before it could write that down
                write_invalid(trial)
        elif record.fingerprint and record.fingerprint != trial.record.fingerprint:
            reason = composed[arm].reason
            message = "was cooked from another recipe, other images or another base than is declared now"
            message = f"cannot be cooked any more: {reason}" if reason else message
            strangers.append(Problem(str(trial.folder), message, "move it away, or give the sweep another name"))
        trial.record = record or trial.record
        trial.step = trial.record.step
        trial.take_results()
        trials.append(trial)
    if strangers:
        raise ConfigError(strangers, subject=f"sweep `{spec.name}`")
    if judge_anew:
        judge_by_today(trials, manifest.metric, left_out=manifest.left_out)
    writer = TrialWriter(spec, None, left_out=manifest.left_out)
    for trial in trials:
        if trial.folder.exists() and not trial.record.status.is_final:
            require_writable(trial.folder)  # it may be somebody else's
        write_lost_inputs(trial)
        writer.look_again(trial)
    return trials


def _to_judge_anew(trials: Sequence[Trial]) -> int:
    """Count the trials that have an end and wait all the same."""
    waiting = (trial for trial in trials if trial.record.status is Status.WAITING)
    return sum(bool(trial.verdict) or trial.record.value is not None for trial in waiting)


def _reported(trial: Trial, spec: SweepSpec, manifest: Manifest) -> dict[int, float]:
    """Return what the study was told at the rungs: exposures per image -> the sweep's metric."""
    if spec.further:  # Optuna knows reports of a single objective only
        return {}
    in_order = reversed(trial.rungs.items())  # of rungs less than an exposure apart the first one counts
    rungs = {in_exposures(at): score.without(metrics, manifest.left_out) for at, metrics in in_order}
    return {at: metrics[spec.metric] for at, metrics in rungs.items() if spec.metric in metrics}


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self, sweep_folder: Path, estimated_s: float | None) -> None:
        """Start; the estimate of a sweep that was begun before stays what it was then."""
        self._path = sweep_folder / TIMING_FILE
        self._before = SweepFolder(sweep_folder).timing
        self._estimated_s = self._before.get("estimated_s", estimated_s)
        self._began_s = time.monotonic()

    def stop(self, *, done: bool) -> None:
        """Write what has passed; `done`: every trial has its end, so that the error is known."""
        if done and self._before.get("done"):
            return  # looking at it again is not cooking
        passed_s = time.monotonic() - self._began_s + self._before.get("real_s", 0.0)
        data = {"estimated_s": self._estimated_s, "real_s": round(passed_s, 1), "done": done}
        if done and self._estimated_s:
            data["error"] = round(passed_s / self._estimated_s - 1, 3)  # 0.5: it took half as long again
        write_json(self._path, data)
