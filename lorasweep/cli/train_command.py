"""`lorasweep train`: cook one recipe, or one that was cooked before, again."""

from __future__ import annotations

import argparse
import json
import sys

from lorasweep import api, config
from lorasweep.cli import one_run
from lorasweep.core import files, paths
from lorasweep.core.errors import InputError, Problem
from lorasweep.results import runs


def run(options: argparse.Namespace) -> int:
    """Cook, or continue, or show a recipe that is already cooked; returns the exit code."""
    if options.source is not None:
        return _again(options)
    recipe = api.compose(*options.overrides)
    run = one_run.cook_one(recipe, one_run.plan_one(recipe), quiet=options.json, fresh=options.fresh)
    if options.json:
        print(json.dumps(one_run.result_json(run), indent=1))
    else:
        one_run.print_result(run)
    return one_run.exit_code(run.ended)


def _again(options: argparse.Namespace) -> int:
    """Cook a recorded recipe once more, in a folder of its own, and compare; 1 when it came out otherwise."""
    from lorasweep.results.report import compare

    if options.fresh:
        problem = Problem("--fresh", "says nothing beside --from, which takes no other result", "leave it out")
        raise InputError(problem, subject="train --from")
    run = runs.find_run(options.source, subject="train --from")
    recipe = config.compose_recipe([*config.to_overrides(run.recipe), *_not_of_the_recipe(options.overrides)])
    planned = one_run.plan_one(recipe)
    if run.material and run.material != planned.material:
        print("warning  its images, captions or base model have changed since", file=sys.stderr)
    of = files.cut(f"{run.folder.parent.name}-{run.folder.name}", 200)
    folder = paths.outputs() / paths.SINGLE_RUNS / f"again-{of}-{planned.fingerprint[:8]}"
    parent = {"parent": run.name, "overrides": []}
    again = one_run.cook_one(recipe, planned, folder, quiet=options.json, fresh=True, parent=parent)
    if code := one_run.exit_code(again.ended):
        print(f"{again.ended.record.status.value}  {again.ended.record.reason}".rstrip(), file=sys.stderr)
        return code
    found = compare.compare_runs(run.folder, folder)
    if options.json:
        compared = {"compared_with": str(run.folder), **found.document()}
        print(json.dumps({**one_run.result_json(again), **compared}, indent=1))
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
