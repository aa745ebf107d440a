"""`lorasweep calibrate`: run the controls of a base, place every symptom's limit, write the file."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import lorasweep
from lorasweep import config, plan
from lorasweep.cli.cook_commands import print_warnings
from lorasweep.components import bases
from lorasweep.core import files, paths
from lorasweep.core.errors import ConfigError, InputError, LorasweepError, Problem
from lorasweep.core.paths import require_replaceable
from lorasweep.core.records import LauncherOptions, Plan, Recipe, TrackingOptions, digest
from lorasweep.core.run_folder import RECIPE_FILE, RunFolder
from lorasweep.plan import calibration
from lorasweep.plan.calibration import Calibration
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.results import runs
from lorasweep.results.ratings import read_labels
from lorasweep.sweep import driver
from lorasweep.sweep.calibrate.controls import ControlOptions, sweep_of_controls
from lorasweep.sweep.calibrate.fit_limits import Control, fit_labels, fit_limits, read_control
from lorasweep.sweep.ranking import table


def run_calibrate(options: argparse.Namespace) -> int:
    """Run or continue the controls, and write the calibration; returns the exit code."""
    if options.ratings:
        return _by_eye(options)
    recipe = config.compose_recipe(options.overrides)
    holds_for = calibration.conditions(recipe, bases.fingerprint(recipe))
    require_replaceable(options.out, lambda file: bool(calibration.read(file)), option="--out")
    how = ControlOptions(times=options.times, rungs=options.rungs, seeds=tuple(range(options.seeds)))
    cooked = dataclasses.replace(recipe, tracking=TrackingOptions(), launcher=LauncherOptions())
    # A folder per recipe and options: another recipe for the same base is no change of the sweep before.
    name = f"calibrate-{calibration.key_of(holds_for)}-{digest([cooked, how])[:8]}"
    own = plan.make_plan(recipe)
    print_warnings(own.warnings)
    held_out = len(own.held_out_images())
    spec = sweep_of_controls(options.overrides, name=name, steps=own.steps, held_out=held_out, options=how)
    plans = {arm.name: plan.make_plan(arm.recipe) for arm in spec.arms}
    folder = paths.outputs() / name

    with table.live(quiet=options.json) as show:
        result = driver.run_sweep(spec, plans, folder=folder, on_change=show)
    if result.interrupted or result.halted:
        print(result.halted or "interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130 if result.interrupted else 1
    arms = {trial.run_folder: trial.arm for trial in result.state.trials}
    # From their logs: one that diverged in the end has no metrics.json, but has burned.
    controls = {Path(run): read_control(arm, RunFolder(Path(run)).rungs()) for run, arm in arms.items()}
    nulls = _nulls(spec.arms[0].recipe, plans[spec.arms[0].name], folder, controls)
    made = fit_limits(
        list(controls.values()),
        nulls,
        name=options.name or recipe.base.name,
        holds_for=holds_for,
        made=_made(options, controls, nulls),
    )
    return _write(options, made)


def _by_eye(options: argparse.Namespace) -> int:
    """Place the limits by what a person called ruined: nothing is trained."""
    if options.overrides:
        problem = Problem(options.overrides[0], "has no effect: the recipe is that of the rated runs", "take it out")
        raise ConfigError(problem, subject="calibrate --ratings")
    labels = read_labels(runs.find_sweep_or_run(options.ratings, subject="calibrate"), options.rater)
    if not (labels.ruined and labels.harmless):
        message = f"{options.rater} has called {'everything' if labels.ruined else 'nothing'} ruined"
        hint = "limits lie between both; `both bad` says it: lorasweep rate"
        raise InputError(Problem(options.ratings, message, hint), subject="calibrate --ratings")
    found = {}
    for run in labels.runs:
        recipe = config.read_recorded(run.path / RECIPE_FILE, to_cook=False)
        fingerprint = bases.fingerprint(recipe)
        found[digest(calibration.conditions(recipe, fingerprint))] = recipe, fingerprint
    if len(found) > 1:
        message = "the rated runs differ in base, kind of dataset, weight or guidance: limits belong to one of each"
        raise InputError(Problem(options.ratings, message, "rate runs of one"), subject="calibrate --ratings")
    ((recipe, fingerprint),) = found.values()
    holds_for = calibration.conditions(recipe, fingerprint)
    require_replaceable(options.out, lambda file: bool(calibration.read(file)), option="--out")
    made = fit_labels(
        labels.harmless,
        labels.ruined,
        name=options.name or f"{options.ratings} by {options.rater}",
        now=calibration.find(recipe, fingerprint).calibration,
        holds_for=holds_for,
        made={
            "ratings": options.ratings,
            "rater": options.rater,
            "ruined": list(labels.ruined),
            "harmless": list(labels.harmless),
            "when": date.today().isoformat(),
            "lorasweep": lorasweep.__version__,
        },
    )
    return _write(options, made)


def _nulls(
    recipe: Recipe, planned: Plan, folder: Path, controls: dict[Path, Control]
) -> dict[str, list[dict[str, Any]]]:
    """Judge the harmless controls, as large as the healthiest checkpoint of the first `long` run."""
    from lorasweep.sweep.calibrate.negative_controls import judge_nulls
    from lorasweep.trial.resources import TrialResources

    run = next((run for run, control in controls.items() if control.arm == "long"), None)
    if run is None:
        raise LorasweepError("no `long` control has ended: nothing can be placed")
    healthy = RunFolder(run).weights(controls[run].healthy["step"])
    limits = calibration.read(calibration.NEAREST)
    return judge_nulls(recipe, planned, TrialResources(), limits, healthy=healthy, folder=folder / "nulls")


def _made(
    options: argparse.Namespace, controls: dict[Path, Control], nulls: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    return {
        "overrides": list(options.overrides),
        "times": options.times,
        "rungs": options.rungs,
        "seeds": options.seeds,
        "when": date.today().isoformat(),
        "lorasweep": lorasweep.__version__,
        "random_sizes": [row["size"] for row in nulls["random"]],
        "controls": {
            run.name: {
                "healthy_step": control.healthy["step"],
                "burned_step": control.burned["step"],
                "held_out_gain": control.gain,
                "best_identity": control.identity,
            }
            for run, control in controls.items()
        },
    }


def _write(options: argparse.Namespace, made: Calibration) -> int:
    path = options.out or calibration.own_path(made.holds_for)
    made.write(path)
    if options.json:
        print(json.dumps({"file": str(path), **files.read_json(path)}, indent=1))
        return 0
    print(f"{'symptom':<16}{'harmless':>10}{'limit':>10}{'ruined':>15}")
    for symptom in SYMPTOMS:
        limit = made.limits.get(symptom.name)
        if limit is None:
            print(f"{symptom.name:<16}  {made.why_unplaced(symptom.name)}")
        else:
            ruined = "by definition" if limit.burned is None else f"{limit.burned:.3f}"
            print(f"{symptom.name:<16}{limit.null:>10.3f}{limit.limit:>10.3f}{ruined:>15}")
    print(f"learned from F = {made.learned:.2f}; digest {made.digest}")
    print(f"calibration  {path}")
    return 0
