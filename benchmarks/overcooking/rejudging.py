"""Judge cooked runs once more, otherwise, from the same checkpoints and against the same truth.

    rejudge(home, into, overrides)  ->  into/runs/<run>/{run.json, events.jsonl, status.json}, truth/ linked
    rejudge(..., as_files=True)     ->  likewise, of what `export` writes, as `judge` does
    compare(one, other)             ->  area of O and regret of `done_at` both ways, and their paired difference

What judging may cost less is allowed by what it costs in truth.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.overcooking import areas, stopping, table
from benchmarks.overcooking.cooking import FINAL, run_folders, status_of
from benchmarks.overcooking.statistics import auroc, auroc_change, mean_over_runs, over_runs
from lorasweep import api, config
from lorasweep.core import files
from lorasweep.core.records import Component, Plan, Recipe, Status
from lorasweep.core.run_folder import RunFolder, TrialRecord, steps_in
from lorasweep.plan import make_plan
from lorasweep.results import runs
from lorasweep.trial.resources import TrialResources, build_adapter
from lorasweep.trial.run import TrialRun


def rejudge(
    home: Path, into: Path, overrides: Sequence[str], *, only: str = "", as_files: bool = False
) -> Iterator[str]:
    """Judge every ended run that `into` lacks as the product does by default, with overrides; yields its name.

    With `as_files` checkpoints are exported, half precision as people share them, and `judge`'s own adapter reads them.
    """
    resources = TrialResources()
    files.write_json(into / table.SETTINGS, table.settings(home))
    for source in run_folders(home):
        target = into / "runs" / source.name
        cooked = status_of(source) in FINAL and steps_in(RunFolder(source).checkpoints)
        if cooked and status_of(target) is None and re.search(only, source.name):
            _rejudge(source, target, overrides, resources, as_files=as_files)
            yield source.name


def _rejudge(
    source: Path, target: Path, overrides: Sequence[str], resources: TrialResources, *, as_files: bool
) -> None:
    run, cooked = files.read_json(source / "run.json"), RunFolder(source)
    own = [word for word in run["overrides"] if not word.startswith(("sample.", "metrics."))]
    recipe = config.compose_recipe([*own, *overrides])
    shutil.rmtree(target, ignore_errors=True)  # of a call that was cut short
    target.mkdir(parents=True)
    planned = make_plan(recipe)
    weights = {step: cooked.weights(step) for step in steps_in(cooked.checkpoints)}
    if as_files:
        weights = {step: _export(recipe, planned, path, target, step) for step, path in weights.items()}
        options = {"paths": [*map(str, weights.values())], "steps": [*weights], "text_encoder": False}
        recipe = replace(recipe, adapter=Component(name="files", options=options))
    judging = TrialRun(recipe, planned, target, resources, lambda event: True)
    adapter = build_adapter(judging.base, recipe)
    try:
        for step, path in weights.items():
            adapter.load(path)
            judging.judge(SimpleNamespace(adapter=adapter, step=step))  # type: ignore[arg-type]  # it asks for no more
    finally:
        adapter.remove()
    (target / "truth").symlink_to(source.resolve() / "truth")
    files.write_json(target / "run.json", run)
    files.write_json(target / "status.json", files.read_json(source / "status.json"))


def _export(recipe: Recipe, planned: Plan, weights: Path, target: Path, step: int) -> Path:
    record = TrialRecord(number=0, arm="", seed=recipe.seed, status=Status.COMPLETED, step=step)
    saved = runs.Checkpoint(
        folder=target, recipe=recipe, file=weights, step=step, plan=planned, record=record, metrics={}
    )
    (exported,) = api.export(saved, target / f"exported-{step:08}.safetensors", precision="fp16")
    return Path(exported.file)


def compare(one: Path, other: Path) -> dict[str, Any]:
    """Estimate the area of O as shipped and the regret of `done_at`, each way and as other minus one, over runs.

    Only checkpoints that were judged both ways count.
    """
    first, second = ({(c.run, c.step): c for c in table.load(home)} for home in (one, other))
    both = [key for key in first if key in second]
    ways = [[found[key] for key in both] for found in (first, second)]
    names, truth = [run for run, _ in both], areas.labels(ways[0])
    values = [np.nan_to_num(areas.shipped_scores(way)) for way in ways]
    grouped = [list(table.by_run(way).values()) for way in ways]
    useful = [k for k, run in enumerate(grouped[0]) if max(c.truth.utility for c in run) >= stopping.USEFUL]
    regrets = [np.array([stopping.regret(runs[k], stopping.done_at(runs[k])) for k in useful]) for runs in grouped]

    return {
        "runs": len(set(names)),
        "checkpoints": len(both),
        "overcooked": int(truth.sum()),
        "area": [over_runs(names, auroc, way, truth) for way in values],
        "area change": over_runs(names, auroc_change, *values, truth),
        "useful runs": len(useful),
        "regret": [mean_over_runs(way) for way in regrets],
        "regret change": mean_over_runs(regrets[1] - regrets[0]),
    }
