"""The end of a trial: which checkpoint stays, drawn at every weight and seed, judged in full, written down.

    rungs -> verdict -> the kept rung's weights -> ladder of pictures -> final judgement -> metrics.json

What a trial leaves is about one checkpoint, that of the rung judged done, or what comes nearest to it
(`train.keep: done`), or of the last step when the recipe says so: `adapter.safetensors`, `samples/index.json`, and in
metrics.json

    "weight"       the judged LoRA weight
    "step", "exposures_per_image"      which checkpoint is kept
    "metrics", "missing"               of it, judged in full: every seed drawn; with `<name>_se` where known,
                                       and with the verdict's numbers (`judge.summary`)
    "ladder"       the same checkpoint at every weight drawn, ascending: [{"weight", "metrics", "missing"}]
    "rungs"        the curves, every rung measured alike, at `weight` only: [{"step", "exposures_per_image",
                   "metrics", "missing", "replicates"}]; replicates as in `judge.replicates`
    "verdict"      `judge.summary.document`
    "calibration"  {"name", "digest", "fits", "reason"?}; scores with equal digests are comparable

The other rungs' adapters stay in `checkpoints/`. Everything here is worked out again, to the same bits, when
a kill interrupts it. Knows nothing about training.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorasweep.core import files
from lorasweep.core.protocols import Adapter, Base
from lorasweep.core.records import Measurement, Plan, Recipe
from lorasweep.core.run_folder import ADAPTER_FILE, EVENTS_FILE, INDEX_FILE, RESULT_FILE, RunFolder
from lorasweep.plan import sample_requests

if TYPE_CHECKING:
    from lorasweep.plan.calibration import Calibration, ChosenCalibration
    from lorasweep.trial.judge.context import JudgeContext
    from lorasweep.trial.judge.verdict import RungFacts, Verdict
    from lorasweep.trial.sample import Sample

_RUNG = ("step", "exposures_per_image", "metrics", "missing", "replicates")  # see "rungs"


@dataclass(frozen=True, kw_only=True)
class FinalCheckpoint:
    """The checkpoint that is kept, judged in full."""

    step: int
    verdict: Verdict
    final: Measurement
    ladder: list[dict[str, Any]]


def choose(recipe: Recipe, rungs: Sequence[RungFacts], calibration: Calibration) -> tuple[int, Verdict]:
    """Judge the rungs and say which one's adapter stays."""
    from lorasweep.trial.judge import verdict

    found = verdict.of_rungs(rungs, calibration)
    wanted = found.best_at if recipe.train.keep == "done" else None
    return wanted if wanted is not None else rungs[-1]["step"], found


def rescore(run: RunFolder, calibration: Calibration, *, until: int) -> list[RungFacts]:
    """Score the rungs up to a step by some limits, in the log as well, which loses all that came later."""
    from lorasweep.trial.judge import verdict

    rows = [row for row in run.events() if row["step"] <= until]
    rungs = verdict.rescored([row for row in rows if row["kind"] == "rung"], calibration)
    if (run.path / EVENTS_FILE).exists():
        scored = iter(rungs)
        files.write_jsonl(run.path / EVENTS_FILE, [next(scored) if row["kind"] == "rung" else row for row in rows])
    absent: dict[str, Any] = {"missing": {}, "replicates": []}
    return [{name: (absent | row)[name] for name in _RUNG} for row in rungs]


def draw_in_full(base: Base, adapter: Adapter, recipe: Recipe, plan: Plan, folder: Path, *, step: int) -> list[Sample]:
    """Complete a rung's pictures, of every weight of the ladder and every seed, and return them; none is redrawn."""
    from lorasweep.trial import sample

    options = recipe.sample
    place = RunFolder(folder).samples(step)
    there = sample.read_whole(place)
    wanted = list(dict.fromkeys((*sample_requests.in_full(recipe, plan), *there)))
    absent = [request for request in wanted if request not in there]
    drawn = dict(zip(absent, sample.draw(base, adapter, absent, options), strict=True))
    return sample.write(
        place,
        wanted,
        [drawn[request] if request in drawn else there[request].open() for request in wanted],
        base=base,
        options=options,
        adapter_file=ADAPTER_FILE,
    )


def judge_in_full(
    context: JudgeContext, calibration: Calibration, *, histories: Sequence[Sequence[Mapping[str, float]]]
) -> tuple[Measurement, list[dict[str, float]]]:
    """Judge with standard errors; returns what was found and the replicates."""
    from lorasweep.trial import judge
    from lorasweep.trial.judge import replicates, score

    wanted = context.recipe.metrics
    found = judge.judge(context, wanted, calibration)
    context = replace(context, fidelity=context.fidelity or score.kind_of([found.values]))
    parts = replicates.replicate(context, wanted, calibration, histories=histories)
    values = replicates.with_errors(found.values, parts)
    return Measurement(values=values, missing=found.missing), parts


def judge_at_weights(context: JudgeContext, calibration: Calibration, counted: Measurement) -> list[dict[str, Any]]:
    """Judge the same checkpoint at every other weight that was drawn; ascending, `counted` among them."""
    from lorasweep.trial import judge

    weights = dict.fromkeys(sample.request.weight for sample in context.samples)
    steps = []
    for weight in sorted(weights):
        found = counted
        if weight != context.weight:
            found = judge.judge(context.at_weight(weight), context.recipe.metrics, calibration)
        steps.append({"weight": weight, "metrics": found.values, "missing": found.missing})
    return steps


def write(
    folder: Path,
    recipe: Recipe,
    rungs: Sequence[RungFacts],
    kept: FinalCheckpoint | None,
    calibrated: ChosenCalibration,
) -> Measurement:
    """Write what a trial leaves; returns the headline: the final numbers and the verdict's.

    Nothing is `kept` of one that was pruned: the rung that it keeps is not drawn and judged in full.
    """
    from lorasweep.trial.judge import summary
    from lorasweep.trial.judge.ladder import best_weight

    why = "" if kept else "a pruned trial is not drawn at other weights"
    if kept is None:
        step, found = choose(recipe, rungs, calibrated.calibration)
        (at,) = (rung for rung in rungs if rung["step"] == step)
        final = Measurement(values=at["metrics"], missing=at["missing"])
        kept = FinalCheckpoint(step=step, verdict=found, final=final, ladder=[])
    best = best_weight(kept.ladder)
    told = summary.numbers(kept.verdict, rungs, kept=kept.step, best=best, why_no_weight=why)
    headline = Measurement(values=kept.final.values | told.values, missing=kept.final.missing | told.missing)
    run = RunFolder(folder)
    keep(run, kept.step)
    _write_index(run, kept.step)
    exposures = next(rung["exposures_per_image"] for rung in rungs if rung["step"] == kept.step)
    files.write_json(
        folder / RESULT_FILE,
        {
            "weight": recipe.sample.weight,
            "step": kept.step,
            "exposures_per_image": exposures,
            "metrics": headline.values,
            "missing": headline.missing,
            "ladder": kept.ladder,
            "rungs": rungs,
            "verdict": summary.document(kept.verdict, calibrated.calibration, kept.final, kept=kept.step, best=best),
            "calibration": calibrated.document(),
        },
    )
    return headline


def keep(run: RunFolder, step: int) -> None:
    """Make the weights of a rung the run's."""
    files.write_atomic(run.adapter, lambda temporary: shutil.copyfile(run.weights(step), temporary))


def _write_index(run: RunFolder, step: int) -> None:
    """List the kept rung's pictures in `samples/index.json`, by paths relative to that file."""
    source = run.samples(step)
    index = files.read_object(source / INDEX_FILE)  # of a pruned trial it may be lost
    for row in index.get("images", ()):
        row["file"] = f"{source.name}/{row['file']}"
    files.write_json(run.samples() / INDEX_FILE, index)
