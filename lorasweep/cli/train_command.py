"""`lorasweep train`: cook one recipe, or one that was cooked before, again; what `fork` and `judge` share with it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lorasweep import api, config
from lorasweep.core import files, paths
from lorasweep.core.errors import InputError, Problem
from lorasweep.core.records import Plan, Recipe, Status
from lorasweep.plan import make_plan
from lorasweep.results import runs
from lorasweep.results.handles import EndedRun
from lorasweep.results.report.notebook import HEADLINE
from lorasweep.sweep.single import TrialResult

_EXIT_CODES = {Status.COMPLETED: 0, Status.PRUNED: 0, Status.INVALID: 2}
_EXIT_CODES |= dict.fromkeys((Status.CANCELLED, Status.WAITING), 130)
_GOES_ON = "the same command goes on where it stopped"
_NEXT = {
    **dict.fromkeys((Status.CANCELLED, Status.WAITING, Status.RUNNING), _GOES_ON),
    Status.CRASHED: "the traceback is in error.txt there; the same command tries it again from its last step",
    Status.OUT_OF_MEMORY: "try train.batch_size=1, or free some memory and run the same command again",
}


def run(options: argparse.Namespace) -> int:
    """Cook, or continue, or show a recipe that is already cooked; returns the exit code."""
    if options.source is not None:
        return _again(options)
    recipe = api.compose(*options.overrides)
    run = cook_one(recipe, plan_one(recipe), quiet=options.json, fresh=options.fresh)
    if options.json:
        print(json.dumps(result_json(run), indent=1))
    else:
        print_result(run)
    return exit_code(run.ended)


def _again(options: argparse.Namespace) -> int:
    """Cook a recorded recipe once more, in a folder of its own, and compare; 1 when it came out otherwise."""
    from lorasweep.results.report import compare

    if options.fresh:
        problem = Problem("--fresh", "says nothing beside --from, which takes no other result", "leave it out")
        raise InputError(problem, subject="train --from")
    run = runs.find_run(options.source, subject="train --from")
    recipe = config.compose_recipe([*config.to_overrides(run.recipe), *_not_of_the_recipe(options.overrides)])
    planned = plan_one(recipe)
    if run.material and run.material != planned.material:
        print("warning  its images, captions or base model have changed since", file=sys.stderr)
    of = files.cut(f"{run.folder.parent.name}-{run.folder.name}", 200)
    folder = paths.outputs() / paths.SINGLE_RUNS / f"again-{of}-{planned.fingerprint[:8]}"
    parent = {"parent": run.name, "overrides": []}
    again = cook_one(recipe, planned, folder, quiet=options.json, fresh=True, parent=parent)
    if code := exit_code(again.ended):
        print(f"{again.ended.record.status.value}  {again.ended.record.reason}".rstrip(), file=sys.stderr)
        return code
    found = compare.compare_runs(run.folder, folder)
    if options.json:
        compared = {"compared_with": str(run.folder), **found.document()}
        print(json.dumps({**result_json(again), **compared}, indent=1))
    else:
        print(found.sentence())
        print("\n".join(found.details()))
        print(f"run folder  {folder}")
    return 0 if found.same else 1


def _not_of_the_recipe(overrides: list[str]) -> list[str]:
    """Where results go may be said anew; anything else would be another recipe."""
    wrong = [text for text in overrides if text.split("=")[0].split(".")[0] not in ("tracking", "launcher")]
    if wrong:
        hint = "to change a recipe: lorasweep fork TRIAL KEY=VALUE"
        problems = [Problem(text, "would make it another recipe", hint) for text in wrong]
        raise InputError(problems, subject="train --from")
    return overrides


def cook_one(
    recipe: Recipe,
    planned: Plan,
    folder: Path | None = None,
    *,
    quiet: bool,
    fresh: bool = False,
    parent: Mapping[str, Any] | None = None,
) -> EndedRun:
    """Cook a recipe as `api.run_trial` does, and say what is special."""
    run = api.run_trial(recipe, folder, planned=planned, fresh=fresh, parent=parent, quiet=quiet)
    result = run.ended
    if result.halted:
        print(f"stopped early: {result.halted}", file=sys.stderr)
    elif result.record.status.is_final and not result.cooked and not result.record.reused_from:
        if not quiet:
            print(f"already cooked: {run.folder}")
        if fresh and parent is None:
            again = f"lorasweep train --from {run.name}"
            print(f"note  --fresh takes no other run's result; to cook this one again: {again}", file=sys.stderr)
    return run


def plan_one(recipe: Recipe) -> Plan:
    """Plan a recipe, and print what to know first."""
    planned = make_plan(recipe)
    print_warnings(planned.warnings)
    return planned


def print_warnings(warnings: Iterable[str]) -> None:
    """Print what is allowed, but worth knowing; stdout may carry JSON."""
    for warning in warnings:
        print(f"warning  {warning}", file=sys.stderr)


def exit_code(result: TrialResult) -> int:
    """0 when there is an answer, 2 when the recipe cannot be cooked, 130 when interrupted, else 1."""
    return 1 if result.halted else _EXIT_CODES.get(result.record.status, 1)


def result_json(run: EndedRun) -> dict[str, Any]:
    """What `--json` prints about a run."""
    result, record = run.result, run.ended.record
    return {
        "run_folder": str(run.folder),
        "status": record.status.value,
        "reason": record.reason,
        "step": record.step,
        "reused_from": record.reused_from or None,
        "metrics": result["metrics"],
        "missing": result["missing"],
        "verdict": result["verdict"],
    }


def print_result(run: EndedRun) -> None:
    """Print how it came out."""
    result, record = run.result, run.ended.record
    print(f"{record.status.value}  {record.reason}".rstrip())
    if record.reused_from:
        print("            --fresh cooks it anyway")
    if sentence := result["verdict"].get("sentence"):
        print(sentence)
    for name in HEADLINE:
        if name in result["metrics"]:
            print(f"  {name:<24} {result['metrics'][name]:6.3f}{_error(result['metrics'], name)}")
    if doubt := result.get("calibration", {}).get("reason"):
        print(f"note        {doubt}")
    print(f"run folder  {run.folder}  (every metric in metrics.json)")
    if run.ended.mirrored.message:
        print(f"MLflow      {run.ended.mirrored.message}")
    if exit_code(run.ended) == 0:
        print(f"next        lorasweep report {run.folder.parent.name}; lorasweep export {run.name}")
    elif record.status in _NEXT:
        print(f"next        {_NEXT[record.status]}")


def _error(metrics: Mapping[str, float], name: str) -> str:
    error = metrics.get(f"{name}_se")
    return "" if error is None else f" +- {error:.3f}"
