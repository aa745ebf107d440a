"""Cook one recipe: the only module that wires the stages together.

    Recipe + Plan -> base, caches -> train to a rung -> checkpoint -> sample -> judge -> next rung
                  -> choose the rung to keep -> draw and judge it in full -> Outcome

All rungs are drawn and judged alike; what a trial leaves in the end is in `keep`.

Everything lands in the run folder, which is the source of truth; a call on a folder that already holds work
goes on from its last checkpoint and ends with the weights that an uninterrupted call would have reached.
Knows nothing about Optuna, MLflow, other trials or the terminal.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep.core import files
from lorasweep.core.errors import LorasweepError
from lorasweep.core.provenance import provenance
from lorasweep.core.records import Measurement, Outcome, Plan, Recipe, Status
from lorasweep.core.run_folder import (
    CACHED_AS_FILE,
    EVENTS_FILE,
    INDEX_FILE,
    PROBES_FILE,
    PROVENANCE_FILE,
    RunFolder,
    steps_in,
)
from lorasweep.plan import calibration, cost, sample_requests
from lorasweep.plan.lora_files import has_files
from lorasweep.trial import class_images, finish
from lorasweep.trial.file_slot import FileSlot
from lorasweep.trial.finish import FinalCheckpoint
from lorasweep.trial.judge import probes, score
from lorasweep.trial.resource_usage import ResourceUsage
from lorasweep.trial.resources import TrialResources

if TYPE_CHECKING:
    from lorasweep.trial.judge.context import JudgeContext
    from lorasweep.trial.judge.verdict import RungFacts
    from lorasweep.trial.sample import Sample
    from lorasweep.trial.train.loop import Diverged
    from lorasweep.trial.train.slot import Slot

    AnySlot = Slot | FileSlot

log = logging.getLogger(__name__)
LONG_ENOUGH_S = 5.0  # of training, before its speed is worth remembering
Report = Callable[[dict[str, Any]], bool]


class _Stopped(Exception):
    """Raised between two steps when the owner asked to stop; the slot is whole."""


@dataclass(kw_only=True, eq=False)
class Stretch:
    """Training that a trial waits for: of its slot, up to its next rung."""

    run: TrialRun
    slot: Slot
    rung: int  # step
    should_stop: Callable[[], bool]
    seconds: float = 0.0  # that it has taken; its part of what slots took together
    stopped: bool = False  # `should_stop` said so
    diverged: Diverged | None = None  # why it goes no further


Stretches = Generator[Stretch, None, Outcome]


def cook(
    recipe: Recipe,
    plan: Plan,
    folder: Path,
    resources: TrialResources,
    *,
    report: Report,
    should_stop: Callable[[], bool],
) -> Outcome:
    """Train, sample and judge one recipe in `folder`, continuing what is there; its `status.json` is never touched.

    `report` is called with every event; its answer matters for "rung" events: False prunes the trial. `should_stop` is
    asked after every step; True checkpoints and ends with CANCELLED.

    Returns:
        The outcome: COMPLETED, PRUNED, DIVERGED or CANCELLED. Other failures are raised.
    """
    with closing(cooking(recipe, plan, folder, resources, report=report, should_stop=should_stop)) as stretches:
        while True:
            try:
                stretch = next(stretches)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            train([stretch])


def cooking(
    recipe: Recipe,
    plan: Plan,
    folder: Path,
    resources: TrialResources,
    *,
    report: Report,
    should_stop: Callable[[], bool],
) -> Stretches:
    """Cook, but have whoever advances it do the training that it yields, of several trials at a time, by `train`.

    Those must have the same `plan.packing.share_key`, and `resources`.
    """
    from lorasweep.trial.train.loop import Diverged

    resources.wake(None)
    run = TrialRun(recipe, plan, folder, resources, report)
    slot = run.open_slot()
    resources.adapters.append(slot.adapter)
    try:
        return (yield from _train_rungs(run, slot, should_stop))
    except _Stopped:
        run.save(slot)
        return Outcome(status=Status.CANCELLED, step=slot.step, reason="stopped on request")
    except Diverged as error:
        run.event("end", slot.step, status=Status.DIVERGED.value)
        return Outcome(status=Status.DIVERGED, step=slot.step, reason=str(error))
    finally:
        resources.adapters.remove(slot.adapter)
        slot.close()


def train(stretches: Sequence[Stretch], *, until: Callable[[], bool] = lambda: False) -> None:
    """Train slots together, until one is at its rung, has diverged or should stop, or until `until` is true."""
    from lorasweep.trial.train import loop

    def ended() -> bool:
        for each in stretches:
            each.stopped = each.should_stop()
        return any(each.stopped for each in stretches) or until()

    by_slot, first = {each.slot: each for each in stretches}, stretches[0].run
    began = time.perf_counter()
    try:
        loop.advance(
            list(by_slot),
            first.base,
            steps=min(each.rung - each.slot.step for each in stretches),
            on_step=lambda slot, metrics: by_slot[slot].run.note_step(slot.step, metrics),
            until=ended,
        )
    except loop.Diverged as error:
        by_slot[error.slot].diverged = error
    for each in stretches:
        each.seconds += (time.perf_counter() - began) / len(stretches)


def _train_rungs(run: TrialRun, slot: AnySlot, should_stop: Callable[[], bool]) -> Stretches:
    """Train from rung to rung, or take one file after another, judging each."""
    for rung in run.plan.rungs:
        if slot.step < rung:
            if isinstance(slot, FileSlot):
                if should_stop():
                    raise _Stopped
                slot.advance(rung)
            else:
                yield from _train_to(rung, run, slot, should_stop)
                run.save(slot)
        if rung not in run.judged:
            with slot.for_use():
                go_on = run.judge(slot)
        else:
            # Its last attempt may have ended before the answer to this very rung came, or was obeyed.
            go_on = rung != slot.step or run.ask_again(rung)
        if not go_on and rung != run.plan.steps:
            return run.finish(slot, Status.PRUNED)
    return run.finish(slot, Status.COMPLETED)


def _train_to(rung: int, run: TrialRun, slot: Slot, should_stop: Callable[[], bool]) -> Generator[Stretch, None, None]:
    stretch, first = Stretch(run=run, slot=slot, rung=rung, should_stop=should_stop), slot.step
    while slot.step < rung:
        yield stretch
        run.resources.wake(slot.adapter)
        if stretch.diverged is not None:
            raise stretch.diverged
        if stretch.stopped:
            raise _Stopped
    run.note_speed(slot.step - first, stretch.seconds)


class TrialRun:
    """One run folder being worked on: its stages and its files."""

    def __init__(self, recipe: Recipe, plan: Plan, folder: Path, resources: TrialResources, report: Report) -> None:
        self.recipe, self.folder, self.files = recipe, folder, RunFolder(folder)
        self.resources, self._report = resources, report
        self._resource_usage = ResourceUsage()
        self.base = resources.base(recipe)
        self.plan = class_images.draw(self.base, recipe, plan)
        self.judged: dict[int, RungFacts] = {}
        self._answers: dict[int, dict[Any, Any]] = {}  # to the probes, by step: the kept rung is not asked twice
        self._calibrated = calibration.find(recipe, self.base.fingerprint)

    def open_slot(self) -> AnySlot:
        """Build the slot, restore its last checkpoint, and forget the events of steps that were lost."""
        self.folder.mkdir(parents=True, exist_ok=True)
        begun = self.files.provenance if steps_in(self.files.checkpoints) else {}
        files.write_json(self.folder / PROVENANCE_FILE, provenance(begun))
        latents, _ = self.resources.caches(self.recipe)
        latents.warm(self.plan.images)
        judged = has_files(self.recipe)
        if why := self.files.damage(self.plan.rungs, trained=not judged):
            log.warning("%s begins anew: %s", self.folder, why)
            shutil.rmtree(self.files.checkpoints)
        slot = FileSlot(self.base, self.recipe, self.files) if judged else self._restored()
        self._rewind(slot.step)
        self.event("start", slot.step)
        return slot

    def _restored(self) -> Slot:
        from lorasweep.trial.train import checkpoint
        from lorasweep.trial.train.slot import make_slot

        latents, texts = self.resources.caches(self.recipe)
        slot = make_slot(self.base, self.recipe, self.plan, latents=latents, texts=texts)
        try:
            checkpoint.restore(slot, self.files.checkpoints)
        except BaseException:
            slot.close()  # or its adapter would stay in the base that the next trial shares
            raise
        return slot

    def save(self, slot: AnySlot) -> None:
        """Checkpoint, unless this very step is already saved: a file is, from the start."""
        from lorasweep.trial.train import checkpoint

        if not isinstance(slot, FileSlot) and slot.step not in steps_in(self.files.checkpoints):
            checkpoint.save(slot, self.files.checkpoints)

    def note_speed(self, steps: int, seconds: float) -> None:
        """Leave a measurement for `plan`, from a stretch long enough to mean something."""
        if seconds < LONG_ENOUGH_S:
            return
        pixels = cost.training_pixels(self.plan) * steps / self.plan.steps
        cost.remember(self.recipe.base, pixels / seconds)

    def note_step(self, step: int, metrics: dict[str, float]) -> None:
        """Log a step now and then, and what this process takes of the machine, which the owner need not hear of."""
        if step % self.recipe.train.log_every == 0 or step in self.plan.rungs:
            self.event("step", step, metrics=metrics)
            if taken := self._resource_usage.look(now=step in self.plan.rungs):
                self._log("system", step, metrics=taken)

    def judge(self, slot: AnySlot) -> bool:
        """Sample and measure at this rung; returns whether the owner wants the trial to go on."""
        samples = self._sample(slot)
        with cost.measured(self.recipe.base, "judge", len(samples)):
            found, replicates = self._judge(slot, slot.step, samples)
        warned = self._warning()
        rung: RungFacts = {
            "step": slot.step,
            "exposures_per_image": self.plan.exposures_per_image * slot.step / self.plan.steps,
            "metrics": found.values,
            "missing": found.missing,
            "replicates": replicates,
        }
        self.judged[slot.step] = rung
        warning = self._warning()
        return self.event("rung", **rung, warning="" if warned else warning)

    def ask_again(self, step: int) -> bool:
        """Ask the owner once more about a rung that is judged and logged."""
        return self._report({"kind": "rung", "time": time.time(), "warning": "", **self.judged[step]})

    def _judge(self, slot: AnySlot, step: int, samples: Sequence[Sample]) -> tuple[Measurement, list[dict[str, float]]]:
        earlier = [rung for rung in self._rungs() if rung["step"] < step]
        return finish.judge_in_full(
            self._context(slot, step, samples),
            self._calibrated.calibration,
            histories=[rung["replicates"] for rung in earlier],
        )

    def _context(self, slot: AnySlot, step: int, samples: Sequence[Sample]) -> JudgeContext:
        return self.resources.judge_context(
            self.recipe,
            self.plan,
            adapter=slot.adapter,
            samples=samples,
            step=step,
            history=[rung["metrics"] for rung in self._rungs() if rung["step"] < step],
            fidelity=score.kind_of([rung["metrics"] for rung in self._rungs()]),
            answers=self._answers.setdefault(step, {}),
        )

    def _warning(self) -> str:
        """Return what a person should hear before the trial is over: that it has burned; empty while unsure."""
        from lorasweep.trial.judge import summary, verdict

        rungs = self._rungs()
        found = verdict.of_rungs(rungs, self._calibrated.calibration)
        return summary.burning(found) if verdict.is_sure(rungs, found) else ""

    def _sample(self, slot: AnySlot) -> list[Sample]:
        """Draw at the judged weight, for the rungs' seeds."""
        from lorasweep.trial import sample

        options = self.recipe.sample
        requests = sample_requests.at_rung(self.recipe, self.plan)
        area_px = sum(each.width_px * each.height_px for each in requests)
        with cost.measured(self.recipe.base, "draw", cost.denoised_pixels(area_px, options)):
            pictures = sample.draw(self.base, slot.adapter, requests, options)
        samples = sample.write(
            self.files.samples(slot.step),
            requests,
            pictures,
            base=self.base,
            options=options,
            adapter_file=self.files.weights(slot.step).relative_to(self.folder).as_posix(),
        )
        self._tell_samples(slot.step)
        return samples

    def _tell_samples(self, step: int) -> None:
        index = self.files.samples(step) / INDEX_FILE
        self.event("samples", step, index=index.relative_to(self.folder).as_posix())

    def _rungs(self) -> list[RungFacts]:
        return [self.judged[step] for step in sorted(self.judged)]

    def finish(self, slot: AnySlot, status: Status) -> Outcome:
        """Choose what stays, and write it; a completed trial's is drawn and judged in full first."""
        rungs = self._rungs()
        kept = None if status is Status.PRUNED else self._keep(slot, rungs)
        self.event("end", slot.step, status=status.value)
        headline = finish.write(self.folder, self.recipe, rungs, kept, self._calibrated)
        return Outcome(status=status, step=slot.step, metrics=headline.values, missing=headline.missing)

    def _keep(self, slot: AnySlot, rungs: Sequence[RungFacts]) -> FinalCheckpoint:
        """Put the kept rung's weights back, draw them at every weight and seed, and judge that."""
        step, found = finish.choose(self.recipe, rungs, self._calibrated.calibration)
        if not self.files.weights(step).exists():  # which nobody could know before
            shutil.rmtree(self.files.checkpoints)
            raise LorasweepError(f"the weights of step {step} are gone, which is the one to keep: it begins anew")
        slot.adapter.load(self.files.weights(step))  # which cannot train on from there
        samples = finish.draw_in_full(self.base, slot.adapter, self.recipe, self.plan, self.folder, step=step)
        self._tell_samples(step)
        final, _ = self._judge(slot, step, samples)
        context = self._context(slot, step, samples)
        ladder = finish.judge_at_weights(context, self._calibrated.calibration, final)
        return FinalCheckpoint(step=step, verdict=found, final=final, ladder=ladder)

    def event(self, kind: str, step: int, **details: Any) -> bool:
        """Log one event and report it; returns the owner's answer."""
        return self._report(self._log(kind, step, **details))

    def _log(self, kind: str, step: int, **details: Any) -> dict[str, Any]:
        row = {"kind": kind, "time": time.time(), "step": step, **details}
        files.append_jsonl(self.folder / EVENTS_FILE, row, durable=kind == "rung")
        return row

    def _rewind(self, step: int) -> None:
        """Keep what there is up to the restored step, scored by today's limits: all later will happen again."""
        for later in (each for each in steps_in(self.files.checkpoints) if each > step):
            shutil.rmtree(self.files.weights(later).parent)
        rungs = finish.rescore(self.files, self._calibrated.calibration, until=step)
        self.judged |= {rung["step"]: rung for rung in rungs}


def draw_base_samples(recipe: Recipe, plan: Plan, folder: Path, resources: TrialResources) -> None:
    """Put the base's own images, same prompts and seeds as every trial's, and the probes into `folder`."""
    resources.wake(None)
    drawn = resources.base_samples(recipe, plan, link_into=folder)
    files.write_json(folder / CACHED_AS_FILE, {"folder": drawn[0].file.parent.name if drawn else ""})
    files.write_json(folder / PROBES_FILE, probes.described(resources.probes(recipe, plan)))
