"""What happens while workers are alive: trials are handed out, ends are heard, and each is decided.

    SweepLoop(folder, source, ...).run(options)   until nothing is left to wait for

The only writer of statuses and of the study, both by way of the `TrialWriter`. Knows nothing about how a sweep is
opened and closed, about torch or MLflow.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from lorasweep.core import registry
from lorasweep.core.records import Outcome, Status, from_dict, to_dict
from lorasweep.core.run_folder import BASE_SAMPLES, RunFolder
from lorasweep.sweep.queue import Trial, TrialQueue
from lorasweep.sweep.ranking import leaderboard
from lorasweep.sweep.ranking.announce import Announcer
from lorasweep.sweep.result_cache import BaseSamples, ResultCache
from lorasweep.sweep.retry import FailureWatch, disk_full, status_of_death
from lorasweep.sweep.search.pruning import PruningGate
from lorasweep.sweep.trial_writer import TrialWriter
from lorasweep.sweep.trials import TrialSource
from lorasweep.sweep.workers.pool import Message, PoolOptions, WorkerHandle, WorkerPool
from lorasweep.sweep.workers.stop import StopSignal

TICK_S = 0.25  # how soon Ctrl-C is noticed
EARLY_DEATHS_STOP = 3  # workers that die before they can cook, one after the other
INVALID_POINTS_STOP = 3  # points of the space that make no recipe, one after the other


class SweepLoop:
    """One call of `run_sweep` while workers are alive."""

    def __init__(
        self,
        folder: Path,
        source: TrialSource,
        writer: TrialWriter,
        gate: PruningGate,
        announcer: Announcer,
        stop: StopSignal,
        *,
        cache: ResultCache | None,
        repeats: int | None,
    ) -> None:
        """Take what `run_sweep` has opened; without a `cache`, what others have cooked is cooked again."""
        self.halted = ""
        self._cache, self._repeats = cache, repeats
        self._folder = folder
        self._source = source
        self._writer, self._gate = writer, gate
        self._announcer, self._stop = announcer, stop
        self._queue = TrialQueue(source.trials)
        self._watch = FailureWatch()
        self._base = BaseSamples(folder)
        self._early_deaths = self._invalid_points = 0

    def run(self, options: PoolOptions) -> None:
        """Cook until nothing is left, or until told to stop."""
        launcher = registry.load("launcher", options.launcher.name)
        self._pool: WorkerPool = launcher.build(options)
        self._reuse_cooked()
        self._add_repeats()
        if not self._more:
            return
        if not self._queue and not self._source.open and self._repeats is None:
            # Only the base's samples are left to draw, which is one worker's work.
            self._pool = launcher.build(dataclasses.replace(options, workers=1))
        with self._pool:
            while self._advance():
                self._announcer.changed(self._activity())
                for handle, message in self._pool.listen(TICK_S):
                    if message is None:
                        self._worker_died(handle)
                    else:
                        self._hear(handle, message)
                self._pool.end_hung()
        self._announcer.changed("")

    def _advance(self) -> bool:
        """Hand out work, or call it in; False when there is nothing left to wait for."""
        if self._stop.now:
            for handle in self._pool.workers:
                self._cancel(handle)
            return False
        if not self._stopping:
            self._hand_out()
            self._add_repeats()
            return self._more or self._cooking
        cooking = [handle for handle in self._pool.workers if isinstance(handle.job, Trial)]
        for handle in cooking:
            if not handle.stopping:
                handle.stopping = handle.send(kind="stop")
        return bool(cooking)  # base samples are not waited for: nothing of them is lost

    @property
    def _more(self) -> bool:
        """Whether there is a trial to hand out or to be asked for, or a result that lacks its base."""
        return bool(self._queue) or self._source.open or self._base_lacks

    @property
    def _base_lacks(self) -> bool:
        """Whether all that is left is to draw what results are shown beside, as when all were reused."""
        return self._base.wanted and any(trial.record.status is Status.COMPLETED for trial in self._source.trials)

    @property
    def _cooking(self) -> bool:
        return any(handle.job is not None for handle in self._pool.workers)

    @property
    def _stopping(self) -> bool:
        return self._stop.gently or bool(self.halted)

    # ------------------------------------------------------------------------------------------ hand out

    def _hand_out(self) -> None:
        for handle in self._pool.workers:
            if not handle.ready or handle.job is not None:
                continue
            if self._base.wanted:
                # Trials are judged against the base's samples, so these come before any trial.
                if not any(other.job == BASE_SAMPLES for other in self._pool.workers):
                    self._give_base_samples(handle)
                return
            trial = self._next()
            if trial is None:
                return
            self._writer.begin(trial)
            self._give(handle, trial, trial, trial.folder)

    def _next(self) -> Trial | None:
        """The next trial: one that waits, or else one of a point that is asked for now."""
        while (trial := self._queue.take()) is None and self._source.open and not self._stopping:
            self._ask()
        return trial

    def _ask(self) -> None:
        asked = self._source.ask()
        for trial in asked:
            if trial.record.status is Status.INVALID:
                self._writer.invalid(trial)
                self._announcer.trial_ended(trial)
            else:
                self._queue.add(trial)
        invalid = asked[0].record.status is Status.INVALID
        self._invalid_points = self._invalid_points + 1 if invalid else 0
        if self._invalid_points >= INVALID_POINTS_STOP:
            self._halt(
                f"{self._invalid_points} points of the space in a row make no recipe: "
                f"{asked[0].record.reason}. Run the same command to go on with the next point, or give the "
                "axis only values that do: choice(8,16), range(8,65,8)"
            )
        self._reuse_cooked()

    def _add_repeats(self) -> None:
        """When all is cooked and the best arm is not known, queue what would tell most about it."""
        if self._repeats is None or self._more or self._cooking:
            return
        for arm, seed in leaderboard.repeats_wanted(self._announcer.snapshot(), limit=self._repeats):
            self._queue.add(self._source.repeat(arm, seed))
        self._reuse_cooked()

    def _give_base_samples(self, handle: WorkerHandle) -> None:
        while not self._recipes and self._source.open and not self._stopping:
            self._ask()
        if self._recipes:
            self._give(handle, BASE_SAMPLES, self._recipes[0], self._base.folder)

    @property
    def _recipes(self) -> list[Trial]:
        """The trials that can be cooked."""
        return [trial for trial in self._source.trials if trial.recipe is not None]

    def _give(self, handle: WorkerHandle, job: Trial | str, trial: Trial, folder: Path) -> None:
        handle.job = job
        handle.send(
            kind=BASE_SAMPLES if job == BASE_SAMPLES else "cook",
            recipe=to_dict(trial.recipe),
            plan=to_dict(trial.plan),
            folder=str(folder),
            attempt=trial.record.attempt,
        )

    # -------------------------------------------------------------------------------------------- listen

    def _hear(self, handle: WorkerHandle, message: Message) -> None:
        match message["kind"]:
            case "ready":
                handle.ready = True
            case "event":
                self._event(handle, message["event"])
            case "outcome":
                trial = self._job_done(handle, leaving=message["leaving"])
                outcome = from_dict(Outcome, message["outcome"])
                if message["disk_full"]:
                    self._halt(disk_full(self._folder, outcome.reason))
                self._attempt_ended(trial, outcome)
            case "drawn":
                self._job_done(handle, leaving=message["reason"])
                if message["disk_full"]:
                    self._halt(disk_full(self._folder, message["reason"]))
                else:
                    self._base_drawn(message["reason"])

    def _event(self, handle: WorkerHandle, event: dict[str, Any]) -> None:
        trial: Trial = handle.job
        trial.note(event)
        self._early_deaths = 0
        if event["kind"] == "rung":
            go = self._gate.rung(trial)
            self._writer.rung(trial)
            handle.send(kind="verdict", go=go)

    def _job_done(self, handle: WorkerHandle, *, leaving: str) -> Any:
        job, handle.job = handle.job, None
        handle.stopping = False
        handle.ready, handle.leaving = not leaving, bool(leaving)
        return job

    def _base_drawn(self, reason: str) -> None:
        self._base.wanted = False
        self._announcer.outdated()
        if reason:
            self._announcer.notes.append(f"the base model's own samples could not be drawn: {reason}")

    def _worker_died(self, handle: WorkerHandle) -> None:
        job, death = handle.job, handle.death()
        if isinstance(job, Trial):
            # It may have finished its trial and died before it could say so.
            left = RunFolder(job.folder).outcome(attempt=job.record.attempt)
            status = status_of_death(job.record, starved=death.starved)
            self._attempt_ended(job, left or Outcome(status=status, step=job.step, reason=death.cause))
        elif not handle.leaving:
            self._early_deaths += 1
            if self._early_deaths >= EARLY_DEATHS_STOP:
                why = f"{death.cause}; {handle.last_words()}; see {handle.log}"
                self._halt(f"workers die before they can cook: {why}")
        if (self._more or self._repeats is not None) and not self._stopping:
            self._pool.replace(handle)
        else:
            self._pool.remove(handle)

    def _cancel(self, handle: WorkerHandle) -> None:
        handle.kill()
        trial, handle.job = handle.job, None
        if isinstance(trial, Trial):
            left = RunFolder(trial.folder).outcome(attempt=trial.record.attempt)
            cancelled = Outcome(status=Status.CANCELLED, step=trial.step, reason="stopped at once")
            self._attempt_ended(trial, left or cancelled)

    # --------------------------------------------------------------------------------------------- decide

    def _attempt_ended(self, trial: Trial, outcome: Outcome) -> None:
        trial.metrics = dict(outcome.metrics) or trial.metrics
        trial.verdict = RunFolder(trial.folder).result["verdict"]
        if outcome.status is Status.PRUNED:
            outcome = dataclasses.replace(outcome, reason=outcome.reason or trial.stopped)
        self._writer.end(trial, outcome)
        if trial.record.status is Status.WAITING:
            self._queue.put_back(trial)
        elif trial.record.status.is_final:
            self._gate.ended(trial)
            self._halt(self._watch.saw(trial.record))
            self._announcer.trial_ended(trial)
            self._reuse_duplicates()

    def _reuse_cooked(self) -> None:
        """Take out of the queue what was cooked already, here or by another sweep."""
        for _ in range(len(self._queue)):
            trial = self._queue.take()
            assert trial is not None
            begun = trial.record.attempt > 0
            cooked = None if begun or self._cache is None else self._cache.find(trial.record.fingerprint)
            if cooked is None:
                self._queue.put_back(trial)
            else:
                self._base.take_from(cooked, number=trial.number)
                self._writer.reuse_elsewhere(trial, cooked)
                self._announcer.trial_ended(trial)
        self._reuse_duplicates()

    def _reuse_duplicates(self) -> None:
        for duplicate, original in self._queue.duplicates_ready():
            self._writer.reuse(duplicate, original)
            self._announcer.trial_ended(duplicate)

    def _halt(self, why: str) -> None:
        """Hand out nothing more, unless there is no reason to."""
        if why and not self.halted:
            self.halted = why
            self._announcer.notes.append(why)

    def _activity(self) -> str:
        if self.halted:
            return "stopping"
        if self._stop.gently:
            return "stopping: workers finish their step and save; Ctrl-C again to stop at once"
        if not any(handle.ready for handle in self._pool.workers):
            return "starting workers"
        return "drawing the base model's own samples" if self._base.wanted else ""
