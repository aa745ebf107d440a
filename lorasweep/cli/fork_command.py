"""`lorasweep fork`: a variation of a run that was cooked before."""

from __future__ import annotations

import argparse
import json

from lorasweep import config
from lorasweep.cli import train_command
from lorasweep.core.errors import InputError, Problem
from lorasweep.results import runs


def run(options: argparse.Namespace) -> int:
    """Compose the parent's recipe with the overrides on top, cook it, remember the parent; the exit code."""
    parent = runs.find_run(options.run, subject="fork")
    if not options.overrides:
        hint = f"to cook it again as it is: lorasweep train --from {parent.name}"
        raise InputError(Problem("KEY=VALUE", "a fork must change something", hint), subject="fork")
    recipe = config.compose_recipe(config.with_overrides(parent.recipe, options.overrides))
    planned = train_command.plan_one(recipe)
    if recipe.fingerprint() == parent.recipe.fingerprint():
        changed = " ".join(options.overrides)
        problem = Problem(changed, "changes nothing: that is what the parent has already")
        raise InputError(problem, subject="fork")
    variation = {"parent": parent.name, "overrides": list(options.overrides)}
    run = train_command.cook_one(recipe, planned, quiet=options.json, fresh=options.fresh, parent=variation)
    if options.json:
        print(json.dumps({**train_command.result_json(run), **variation}, indent=1))
    else:
        train_command.print_result(run)
        print(f"forked from {parent.name}: {' '.join(options.overrides)}")
    return train_command.exit_code(run.ended)
