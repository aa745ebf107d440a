"""The driver of a sweep: opens it, lets its loop run, and closes it, whatever happens in between.

    run_sweep(spec, plans, folder=...) -> SweepResult

The same call starts a sweep, continues one that was interrupted or killed, tries crashed trials again, and
returns at once for one that is done. What happens while workers are alive is in `loop`. Knows nothing about
torch, MLflow or what a recipe is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorasweep.core.output_folder import require_writable
from lorasweep.core.records import Plan, Status
from lorasweep.sweep.loop import SweepLoop
from lorasweep.sweep.mirror import Mirror, last_look
from lorasweep.sweep.ranking.announce import Announcer
from lorasweep.sweep.ranking.state import SweepState, read_state
from lorasweep.sweep.ranking.timing import Stopwatch
from lorasweep.sweep.result_cache import ResultCache
from lorasweep.sweep.retry import FAILURES
from lorasweep.sweep.search.pruning_gate import PruningGate
from lorasweep.sweep.startup import open_sweep, recipe_factory
from lorasweep.sweep.trial_writer import TrialWriter
from lorasweep.sweep.trials import Compose
from lorasweep.sweep.workers.failure import disk_full, is_disk_full, one_line
from lorasweep.sweep.workers.lock import sweep_lock
from lorasweep.sweep.workers.sizing import pool_options
from lorasweep.sweep.workers.stop import StopSignal

if TYPE_CHECKING:
    from lorasweep.config import SweepSpec


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """How a call of `run_sweep` ended."""

    state: SweepState
    interrupted: bool = False
    halted: str = ""  # why the rest was not cooked, when it was not for a person's wish
    mirror_ok: bool = True
    mirror_message: str = ""

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
        trial_module: where workers find `TrialResources`, `cook` and `draw_base_samples`.
        estimated_s: how long it is expected to take, to be compared with how long it took.
        on_change: called with a snapshot several times a second.
        on_trial_end: called whenever a trial ended for good, at least once; its errors are noted and do not
            stop the sweep.
        on_end: called once when this call ends, before the mirror is given its last look; errors as above.
        mirror: follows the run folders.
        stop: how the caller asks to stop; None: SIGINT, SIGTERM and SIGHUP do, in the main thread.

    Raises:
        SweepHeldError: another driver has this sweep.
        InputError: the folder cannot be written, or holds trials that this declaration would contradict.
    """
    listening = stop is None
    stop = stop or StopSignal()
    require_writable(folder)
    with stop.listening() if listening else nullcontext(), sweep_lock(folder):
        source, study = open_sweep(spec, plans, folder, extend=extend, compose=compose or recipe_factory(spec))
        announcer = Announcer(
            spec,
            folder,
            source.trials,
            left_out=source.left_out,
            on_change=on_change,
            on_trial_end=on_trial_end,
            on_end=on_end,
        )
        writer = TrialWriter(
            study,
            metric=spec.metric,
            left_out=source.left_out,
            further=spec.further,
            constraints=spec.constraints,
        )
        gate = PruningGate(spec, source.trials, left_out=source.left_out)
        cache = None if fresh else ResultCache(folder.parent, own=folder)
        stopwatch = Stopwatch(folder, estimated_s)
        loop = SweepLoop(folder, source, writer, gate, announcer, stop, cache=cache, repeats=repeats)
        if mirror is not None:
            mirror.start()
        try:
            loop.run(pool_options(spec, folder, source.trials, trial_module, further=repeats is not None))
        except Exception as error:
            if not is_disk_full(error):
                raise
            # The run folders are written ahead, so whatever could not be noted is seen from them next time.
            loop.halted = disk_full(folder, one_line(error))
        finally:
            with suppress(OSError):  # a full disk: both follow from what is written elsewhere
                stopwatch.stop(done=source.done)
                if spec.search is not None or spec.pruner.active:
                    gate.write_summary(folder, source.trials)
            announcer.close()  # the report tells of both
            report = last_look(mirror, spec.tracking.timeout_s, hurry=stop.now)
        state = read_state(folder)
        return SweepResult(
            state=state,
            interrupted=stop.gently and state.finished < state.total,
            halted=loop.halted,
            mirror_ok=report is None or report.ok,
            mirror_message="" if report is None else report.message,
        )
