"""Cook one recipe: the only module that wires the stages together.

    Recipe + Plan -> base, caches -> train to a rung -> checkpoint -> sample -> judge -> next rung -> Outcome

Everything lands in the run folder, which is the source of truth; a call on a folder that already holds work
goes on from its last checkpoint and ends with the weights that an uninterrupted call would have reached.
Knows nothing about Optuna, MLflow, other trials or the terminal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep import files, speed
from lorasweep.kitchen import Kitchen
from lorasweep.provenance import provenance
from lorasweep.records import Measurement, Outcome, Plan, Recipe, Status, to_dict

if TYPE_CHECKING:
    from lorasweep.sample import Sample
    from lorasweep.train.slot import Slot

ADAPTER = "adapter.safetensors"
LONG_ENOUGH_S = 5.0  # of training, before its speed is worth remembering
Report = Callable[[dict[str, Any]], bool]


class _Stopped(Exception):
    """Raised between two steps when the owner asked to stop; the slot is whole."""


def cook(
    recipe: Recipe,
    plan: Plan,
    folder: Path,
    kitchen: Kitchen,
    *,
    report: Report,
    should_stop: Callable[[], bool],
) -> Outcome:
    """Train, sample and judge one recipe in `folder`, continuing what is there.

    Args:
        recipe: what to cook.
        plan: `plan.make_plan(recipe)`; rungs, images and prompts are taken from it.
        folder: the run folder; `status.json` in it belongs to the caller and is never touched.
        kitchen: what this process keeps warm between trials.
        report: called with every event; its answer matters for "rung" events: False prunes the trial.
        should_stop: asked after every step; True checkpoints and ends with CANCELLED.

    Returns:
        The outcome: COMPLETED, PRUNED, DIVERGED or CANCELLED. Other failures are raised.
    """
    from lorasweep.train.loop import Diverged

    run = _Run(recipe, plan, folder, kitchen, report)
    slot = run.open_slot()
    try:
        return _climb(run, slot, should_stop)
    except _Stopped:
        run.save(slot)
        return Outcome(status=Status.CANCELLED, step=slot.step, reason="stopped on request")
    except Diverged as error:
        run.event("end", slot.step, status=Status.DIVERGED.value)
        return Outcome(status=Status.DIVERGED, step=slot.step, reason=str(error))
    finally:
        slot.close()


def _climb(run: _Run, slot: Slot, should_stop: Callable[[], bool]) -> Outcome:
    """Train from rung to rung, judging at each."""

    def on_step(slot: Slot, metrics: dict[str, float]) -> None:
        if slot.step % run.recipe.train.log_every == 0 or slot.step in run.plan.rungs:
            run.event("step", slot.step, metrics=metrics)
        if should_stop():
            raise _Stopped

    for rung in run.plan.rungs:
        if slot.step < rung:
            _train_to(rung, run, slot, on_step)
            run.save(slot)
        if rung not in run.judged:
            with slot.for_use():
                go_on = run.judge(slot, last=rung == run.plan.steps)
            if not go_on and rung != run.plan.steps:
                run.event("end", slot.step, status=Status.PRUNED.value)
                return run.finish(slot, Status.PRUNED)
    run.event("end", slot.step, status=Status.COMPLETED.value)
    return run.finish(slot, Status.COMPLETED)


def _train_to(rung: int, run: _Run, slot: Slot, on_step: Callable[[Slot, dict[str, float]], None]) -> None:
    from lorasweep.train import loop

    began, first = time.perf_counter(), slot.step
    loop.advance([slot], run.base, steps=rung - slot.step, on_step=on_step)
    run.note_speed(slot.step - first, time.perf_counter() - began)


@dataclass(frozen=True)
class Rung:
    """What was found at one rung."""

    step: int
    exposures_per_image: float
    metrics: dict[str, float]


class _Run:
    """One run folder being worked on: its stages and its files."""

    def __init__(self, recipe: Recipe, plan: Plan, folder: Path, kitchen: Kitchen, report: Report) -> None:
        self.recipe, self.plan, self.folder = recipe, plan, folder
        self._kitchen, self._report = kitchen, report
        self.base = kitchen.base(recipe)
        self.judged: dict[int, Rung] = {}
        self._final = Measurement()

    # ------------------------------------------------------------------------------------------- train

    def open_slot(self) -> Slot:
        """Build the slot, restore its last checkpoint, and forget the events of steps that were lost."""
        from lorasweep.train import checkpoint
        from lorasweep.train.slot import make_slot

        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_json(self.folder / "provenance.json", provenance())
        latents, texts = self._kitchen.caches(self.recipe)
        latents.warm(self.plan.images)
        slot = make_slot(self.base, self.recipe, self.plan, latents=latents, texts=texts)
        try:
            step = checkpoint.restore(slot, self.folder / "checkpoints")
        except BaseException:
            slot.close()  # or its adapter would stay in the base that the next trial shares
            raise
        self._rewind_events(step)
        self.event("start", step)
        return slot

    def save(self, slot: Slot) -> None:
        """Checkpoint, unless this very step is already saved."""
        from lorasweep.train import checkpoint

        if slot.step not in checkpoint.steps(self.folder / "checkpoints"):
            checkpoint.save(slot, self.folder / "checkpoints")

    def note_speed(self, steps: int, seconds: float) -> None:
        """Leave a measurement for `plan`, from a stretch long enough to mean something."""
        if seconds < LONG_ENOUGH_S:
            return
        images = self.plan.train_images()
        area = sum(i.bucket.width_px * i.bucket.height_px * i.repeats for i in images)
        mean_area = area / sum(i.repeats for i in images)
        seen = sum(self.plan.exposures.values()) * steps / self.plan.steps
        speed.remember(self.recipe.base, seen * mean_area / seconds)

    # ------------------------------------------------------------------------------------------- judge

    def judge(self, slot: Slot, *, last: bool) -> bool:
        """Sample and measure at this rung; returns whether the owner wants the trial to go on."""
        from lorasweep import metrics

        samples = self._sample(slot, last=last)
        context = self._kitchen.judge_context(
            self.recipe,
            self.plan,
            adapter=slot.adapter,
            samples=samples,
            step=slot.step,
            history=[self.judged[step].metrics for step in sorted(self.judged)],
        )
        found = metrics.judge(context, self.recipe.metrics)
        rung = Rung(slot.step, self._exposures_per_image(slot.step), found.values)
        self.judged[slot.step] = rung
        self._final = found
        return self.event(
            "rung",
            slot.step,
            exposures_per_image=rung.exposures_per_image,
            metrics=found.values,
            missing=found.missing,
        )

    def _sample(self, slot: Slot, *, last: bool) -> list[Sample]:
        """Draw at the weight that counts; at the end also the ladder of weights and all seeds."""
        from lorasweep import sample

        options = self.recipe.sample
        requests = sample.requests(
            self.recipe,
            self.plan,
            weights=tuple(dict.fromkeys((options.weight, *options.weights))) if last else (options.weight,),
            seeds=options.seeds if last else options.rung_seeds,
        )
        images = sample.draw(self.base, slot.adapter, requests, options)
        relative = _samples_folder(slot.step)
        samples = sample.write(
            self.folder / relative,
            requests,
            images,
            base=self.base,
            options=options,
            adapter_file=ADAPTER if last else f"checkpoints/step_{slot.step:06d}/{ADAPTER}",
        )
        self.event("samples", slot.step, index=f"{relative}/index.json")
        return samples

    def _exposures_per_image(self, step: int) -> float:
        return self.plan.exposures_per_image * step / self.plan.steps

    # ------------------------------------------------------------------------------------------- files

    def finish(self, slot: Slot, status: Status) -> Outcome:
        """Write the adapter, the index of the final samples, the final metrics and the verdict."""
        from lorasweep.metrics import score

        with slot.for_use():
            files.write_atomic(self.folder / ADAPTER, slot.adapter.save)
        self._write_final_index(slot.step)
        rungs = [to_dict(self.judged[step]) for step in sorted(self.judged)]
        files.write_json(
            self.folder / "metrics.json",
            {
                "weight": self.recipe.sample.weight,
                "metrics": self._final.values,
                "missing": self._final.missing,
                "rungs": rungs,
                "verdict": score.verdict(rungs),
            },
        )
        return Outcome(status=status, step=slot.step, metrics=self._final.values, missing=self._final.missing)

    def _write_final_index(self, step: int) -> None:
        """List the last rung's images in `samples/index.json`, by paths relative to that file."""
        last = self.folder / _samples_folder(step)
        index = files.read_json(last / "index.json")
        for row in index["images"]:
            row["file"] = f"{last.name}/{row['file']}"
        files.write_json(self.folder / "samples" / "index.json", index)

    def event(self, kind: str, step: int, **details: Any) -> bool:
        """Log one event and report it; returns the owner's answer."""
        row = {"kind": kind, "time": time.time(), "step": step, **details}
        files.append_jsonl(self.folder / "events.jsonl", row)
        return self._report(row)

    def _rewind_events(self, step: int) -> None:
        """Keep the events up to the restored step: later ones will happen again."""
        path = self.folder / "events.jsonl"
        rows = [row for row in files.read_jsonl(path) if row["step"] <= step]
        for row in rows:
            if row["kind"] == "rung":
                self.judged[row["step"]] = Rung(row["step"], row["exposures_per_image"], row["metrics"])
                self._final = Measurement(values=row["metrics"], missing=row["missing"])
        if path.exists():
            files.write_jsonl(path, rows)


def _samples_folder(step: int) -> str:
    return f"samples/step_{step:06d}"


def draw_base_samples(recipe: Recipe, plan: Plan, folder: Path, kitchen: Kitchen) -> None:
    """Put the base model's own images, same prompts and seeds as every trial's, into `folder`."""
    kitchen.base_samples(recipe, plan, link_into=folder)
