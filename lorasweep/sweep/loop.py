"""What happens while workers are alive: trials are handed out, ends are heard, and each is decided.

    SweepLoop(source, ...).run(launcher)   until nothing is left to wait for

The only writer of statuses and of the study, both by way of the `TrialWriter`. Knows nothing about how a sweep is
opened and closed, about torch or MLflow.
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lorasweep.core.records import Outcome, Status, from_dict
from lorasweep.core.run_folder import BASE_SAMPLES, RunFolder
from lorasweep.sweep.comparable import several_devices
from lorasweep.sweep.launchers import Launcher, Member, Message, last_line
from lorasweep.sweep.queue import Trial, TrialQueue, job_of
from lorasweep.sweep.ranking import leaderboard
from lorasweep.sweep.ranking.announce import Announcer
from lorasweep.sweep.result_cache import BaseSamples, ResultCache
from lorasweep.sweep.retry import FailureWatch, NodeWatch, disk_full, is_disk_full, kind_of, one_line, status_of_death
from lorasweep.sweep.search.pruning import PruningGate
from lorasweep.sweep.trial_writer import TrialWriter
from lorasweep.sweep.trials import TrialSource
from lorasweep.sweep.workers.stop import StopSignal

TICK_S = 0.25  # how soon Ctrl-C is noticed
INVALID_POINTS_STOP = 3  # points of the space that make no recipe, one after the other
LOST_STOP = 5  # times that a machine goes away under one trial, before that counts as a crash of the trial


class SweepLoop:
    """One call of `run_sweep` or `run_trial` while workers are alive."""

    def __init__(
        self,
        source: TrialSource,
        announcer: Announcer,
        stop: StopSignal,
        *,
        cache: ResultCache | None,
        repeats: int | None,
    ) -> None:
        """Take what was opened; without a `cache`, what others have cooked is cooked again."""
        self.halted = ""
        self._cache, self._repeats = cache, repeats
        self._source = source
        self._writer = TrialWriter(source.spec, source.study, left_out=source.left_out)
        self.gate = PruningGate(source.spec, source.trials, left_out=source.left_out)
        self._announcer, self._stop = announcer, stop
        self._queue = TrialQueue(source.trials)
        self._watch = FailureWatch()
        self._base = BaseSamples(source.folder)
        self._nodes = NodeWatch()
        self._invalid_points = 0

    def run(self, launcher: Launcher) -> None:
        """Cook until nothing is left, until told to stop, or until there is no room left to write."""
        try:
            self._run(launcher)
        except Exception as error:
            if not is_disk_full(error):
                raise
            # The run folders are written ahead, so whatever could not be noted is seen from them next time.
            self.halted = disk_full(self._source.folder, one_line(error))

    def _run(self, launcher: Launcher) -> None:
        self._launcher = launcher
        with ExitStack() as ends:
            ends.push(launcher)  # entered or not: it may have reached machines already
            self._reuse_cooked()
            self._add_repeats()
            if not self._more:
                return
            if not self._queue and not self._source.open and self._repeats is None:
                launcher.jobs = 1  # only the base's samples are left to draw, which is one worker's work
            launcher.__enter__()
            while self._advance():
                self._announcer.changed(self._activity())
                for member, message in launcher.listen(TICK_S):
                    if message is None:
                        self._worker_died(member)
                    else:
                        self.hear(member, message)
                launcher.end_hung()
        self._announcer.changed("")

    def _advance(self) -> bool:
        """Hand out work, or call it in; False when there is nothing left to wait for."""
        if self._stop.now:
            for member in self._launcher.members:
                self._cancel(member)
            return False
        if not self._stopping:
            self._hand_out()
            self._add_repeats()
            return self._more or self._cooking
        cooking = [member for member in self._launcher.members if isinstance(member.job, Trial)]
        for member in cooking:
            if not member.stopping:
                member.stopping = member.send(kind="stop")
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
        return any(member.job is not None for member in self._launcher.members)

    @property
    def _stopping(self) -> bool:
        return self._stop.gently or bool(self.halted)

    # ------------------------------------------------------------------------------------------ hand out

    def _hand_out(self) -> None:
        for member in list(self._launcher.members):
            if not member.ready or member.job is not None:
                continue
            if _node(member) in self._nodes.benched:
                self._launcher.remove(member)
                continue
            if self._base.wanted:
                # Trials are judged against the base's samples, so these come before any trial.
                if not any(other.job == BASE_SAMPLES for other in self._launcher.members):
                    self._give_base_samples(member)
                return
            trial = self._next()
            if trial is None:
                return
            self._writer.begin(trial, member.place)
            self._give(member, trial, trial, trial.folder)

    def _next(self) -> Trial | None:
        """Return the next trial: one that waits, or else one of a point that is asked for now."""
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
        """Queue, when all is cooked and the best arm is not known, what would tell most about it."""
        if self._repeats is None or self._more or self._cooking:
            return
        for arm, seed in leaderboard.repeats_wanted(self._announcer.snapshot(), limit=self._repeats):
            self._queue.add(self._source.repeat(arm, seed))
        self._reuse_cooked()

    def _give_base_samples(self, member: Member) -> None:
        while not self._recipes and self._source.open and not self._stopping:
            self._ask()
        if self._recipes:
            self._give(member, BASE_SAMPLES, self._recipes[0], self._base.folder)

    @property
    def _recipes(self) -> list[Trial]:
        """The trials that can be cooked."""
        return [trial for trial in self._source.trials if trial.recipe is not None]

    def _give(self, member: Member, job: Trial | str, trial: Trial, folder: Path) -> None:
        member.job = job
        member.send(**job_of(trial, BASE_SAMPLES if job == BASE_SAMPLES else "cook", folder))

    # -------------------------------------------------------------------------------------------- listen

    def hear(self, member: Member, message: Message) -> None:
        """Take in what a worker says."""
        match message["kind"]:
            case "ready":
                member.ready = True
                self._compare_devices()
            case "event":
                self._event(member, message["event"])
            case "outcome":
                trial = self._job_done(member, leaving=message["leaving"])
                outcome = from_dict(Outcome, message["outcome"])
                if message["disk_full"]:
                    self._no_room(member, outcome.reason)
                if message["disk_full"] or (outcome.status is Status.CANCELLED and not self._stopping):
                    self._again(trial, message["leaving"] or outcome.reason)
                else:
                    self._attempt_ended(trial, outcome, _node(member))
            case "drawn":
                self._job_done(member, leaving=message["reason"])
                if message["disk_full"]:
                    self._no_room(member, message["reason"])
                else:
                    self._base_drawn(message["reason"])

    def _event(self, member: Member, event: dict[str, Any]) -> None:
        trial: Trial = member.job
        trial.note(event)
        self._nodes.fine(_node(member))
        go = self._announcer.heard(event)
        if event["kind"] == "rung":
            go = self.gate.rung(trial) and go
            self._writer.rung(trial)
            member.send(kind="verdict", go=go)

    def _job_done(self, member: Member, *, leaving: str) -> Any:
        job, member.job = member.job, None
        member.stopping = False
        member.ready, member.leaving = not leaving, bool(leaving)
        return job

    def _base_drawn(self, reason: str) -> None:
        self._base.wanted = False
        self._announcer.outdated()
        if reason:
            self._announcer.notes.append(f"the base model's own samples could not be drawn: {reason}")

    def _worker_died(self, member: Member) -> None:
        job, death, node = member.job, member.death(), _node(member)
        idle = member.ready and job is None  # it fell with what others had at hand
        if isinstance(job, Trial):
            # It may have finished its trial and died before it could say so.
            left = RunFolder(job.folder).outcome(attempt=job.record.attempt)
            job.lost += death.lost
            if left is None and death.lost and job.lost < LOST_STOP:
                self._again(job, death.cause)
            else:
                status = status_of_death(job.record, starved=death.starved)
                self._attempt_ended(job, left or Outcome(status=status, step=job.step, reason=death.cause), node)
        elif not (idle or member.leaving or death.lost) and self._nodes.died_early(node):
            words = f"; {said}; see {member.log}" if (said := last_line(member.log)) else ""
            why = f"workers die before they can cook: {death.cause}{words}"
            if not self._bench(node, why):
                self._halt(why)
        if death.for_good:
            self._announcer.note(death.cause)
        gone = death.for_good or node in self._nodes.benched
        if (self._more or self._repeats is not None) and not self._stopping and not gone:
            self._launcher.replace(member)
        else:
            self._launcher.remove(member)
            if gone and not self._launcher.members:
                self._halt(f"no worker is left: {death.cause}")

    def _cancel(self, member: Member) -> None:
        member.kill()
        trial, member.job = member.job, None
        if isinstance(trial, Trial):
            left = RunFolder(trial.folder).outcome(attempt=trial.record.attempt)
            cancelled = Outcome(status=Status.CANCELLED, step=trial.step, reason="stopped at once")
            self._attempt_ended(trial, left or cancelled, _node(member))

    # ---------------------------------------------------------------------------------------------- nodes

    def _bench(self, node: str, why: str) -> bool:
        """Give a node no more work, if there is another one."""
        nodes = {member.place.node for member in self._launcher.members if member.place is not None}
        if not self._nodes.bench(node, why, nodes=nodes):
            return False
        self._announcer.note(f"{node} gets no more work: {why}")
        return True

    def _no_room(self, member: Member, reason: str) -> None:
        """Do without a node whose disk is full, or stop."""
        node = _node(member)
        if not (node and self._bench(node, f"its disk is full ({reason})")):
            self._halt(disk_full(self._source.folder, reason, node=node))

    def _again(self, trial: Trial, reason: str) -> None:
        """Cook a trial elsewhere whose end was its node's fault."""
        self._writer.end(trial, Outcome(status=Status.CANCELLED, step=trial.step, reason=f"queued again: {reason}"))
        self._queue.put_back(trial)

    def _compare_devices(self) -> None:
        """Let people know when results come from GPUs of several models."""
        for told in several_devices(member.place.device for member in self._launcher.members if member.place):
            self._announcer.note(f"trials are {told}")

    # --------------------------------------------------------------------------------------------- decide

    def _attempt_ended(self, trial: Trial, outcome: Outcome, node: str) -> None:
        trial.metrics = dict(outcome.metrics) or trial.metrics
        trial.verdict = RunFolder(trial.folder).result["verdict"]
        if outcome.status is Status.PRUNED:
            outcome = dataclasses.replace(outcome, reason=outcome.reason or trial.stopped)
        self._writer.end(trial, outcome)
        if outcome.status is Status.CRASHED and self._nodes.crashed(node, trial.number, kind_of(outcome.reason)):
            self._bench(node, f"trials crash alike there and nowhere else: {outcome.reason}")
        self._nodes.fine(node, done=outcome.status is Status.COMPLETED)
        if trial.record.status is Status.WAITING:
            self._queue.put_back(trial)
        elif trial.record.status.is_final:
            self.gate.ended(trial)
            self._halt(self._watch.saw(trial.record))
            self._announcer.trial_ended(trial)
            self._reuse_duplicates()

    def _reuse_cooked(self) -> None:
        """Take out of the queue what was cooked already, here or by another sweep."""
        for _ in range(len(self._queue)):
            trial = self._queue.take()
            assert trial is not None
            assert trial.recipe is not None, "only what can be cooked waits"
            begun = trial.record.attempt > 0
            known = None if begun or self._cache is None else self._cache
            cooked = None if known is None else known.find(trial.record.fingerprint, trial.recipe)
            if cooked is None:
                self._queue.put_back(trial)
            else:
                self._base.take_from(cooked, number=trial.number)
                self._writer.reuse_elsewhere(trial, cooked)
                self.gate.hear_again(trial)
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
        waiting = self._launcher.waiting()
        if not any(member.ready for member in self._launcher.members):
            return waiting or "starting workers"
        return "drawing the base model's own samples" if self._base.wanted else waiting


def _node(member: Member) -> str:
    return "" if member.place is None else member.place.node
