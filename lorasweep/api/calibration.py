"""Where overcooking begins on a base: by adapters that are ruined on purpose, or by what somebody called ruined."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from typing import Any

import lorasweep
from lorasweep import config
from lorasweep.api.training import OnChange, Warn, alone, sweep_bar, tell
from lorasweep.components import bases
from lorasweep.core import paths
from lorasweep.core.errors import InputError, LorasweepError, Problem, no_counts
from lorasweep.core.printable import command
from lorasweep.core.records import LauncherOptions, Plan, Recipe, TrackingOptions, digest
from lorasweep.core.run_folder import RECIPE_FILE, RunFolder
from lorasweep.plan import calibration, make_plan
from lorasweep.results import runs
from lorasweep.results.handles import Named, named_by
from lorasweep.results.ratings import read_labels
from lorasweep.sweep.calibrate.controls import ControlOptions, sweep_of_controls
from lorasweep.sweep.calibrate.fit_limits import Control, fit_labels, fit_limits, read_control
from lorasweep.sweep.retry import FAILURES


def calibrate(
    *overrides: str,
    times: int = 10,
    rungs: int = 12,
    seeds: int = 2,
    name: str | None = None,
    out: str | Path | None = None,
    warn: Warn | None = None,
    on_change: OnChange | None = None,
) -> Path:
    """Run or continue the controls of a recipe, place every symptom's limit, and write the file that is returned.

    The knobs are those of `lorasweep calibrate --help`. `warn` hears what is worth knowing of the recipe before any
    work, `on_change` the state of the controls whenever it changes, instead of a progress bar.

    Raises:
        ConfigError, DatasetError, InputError: before any work; with every problem found.
        KeyboardInterrupt, LorasweepError: the controls were stopped; the same call continues.
        LorasweepError: they were not ruined, never learned, or one of them failed.
    """
    from lorasweep.sweep import driver
    from lorasweep.sweep.calibrate.negative_controls import require_changes

    if problems := no_counts(times=times, rungs=rungs, seeds=seeds):
        raise InputError(problems, subject="calibrate")
    overrides = tuple(config.texts(overrides))
    recipe = config.compose_recipe(overrides)
    holds_for = calibration.conditions(recipe, bases.fingerprint(recipe))
    file = _writable(out, holds_for)
    how = ControlOptions(times=times, rungs=rungs, seeds=tuple(range(seeds)))
    cooked = dataclasses.replace(recipe, tracking=TrackingOptions(), launcher=LauncherOptions())
    # A folder per recipe and options: another recipe for the same base is no change of the sweep before.
    sweep = f"calibrate-{calibration.key_of(holds_for)}-{digest([cooked, how])[:8]}"
    own = make_plan(recipe)
    tell(alone(recipe, own).warnings, warn)
    spec = sweep_of_controls(overrides, name=sweep, steps=own.steps, held_out=len(own.held_out_images()), options=how)
    plans = {arm.name: make_plan(arm.recipe) for arm in spec.arms}
    folder = paths.outputs() / sweep
    require_changes(recipe)

    with sweep_bar(spec.total) if on_change is None else nullcontext(on_change) as told:
        # Their limits are of no interest, and change by this very command.
        ended = driver.run_sweep(spec, plans, folder=folder, judge_anew=False, on_change=told)
    if ended.interrupted:
        raise KeyboardInterrupt(ended.halted or "interrupted; the same command continues where it stopped")
    if ended.halted:
        raise LorasweepError(ended.halted)
    for trial in ended.state.trials:
        if trial.status in FAILURES:  # what it has logged would be taken for all there is to it
            message = f"control `{trial.arm}` with seed {trial.seed} ended {trial.status}: {trial.reason}"
            hint = f"the same command tries a crashed one again, another one once {trial.run_folder} is deleted"
            raise LorasweepError(f"{message}. Mend the cause: {hint}.")
    arms = {trial.run_folder: trial.arm for trial in ended.state.trials}
    # From their logs: one that diverged in the end has no metrics.json, but has burned.
    controls = {Path(run): read_control(arm, RunFolder(Path(run)).rungs()) for run, arm in arms.items()}
    nulls = _nulls(spec.arms[0].recipe, plans[spec.arms[0].name], folder, controls)
    given = {"overrides": list(overrides), "times": times, "rungs": rungs, "seeds": seeds}
    made = fit_limits(
        list(controls.values()),
        nulls,
        name=name or recipe.base.name,
        holds_for=holds_for,
        made={**given, **_now(), **_controls_json(controls, nulls)},
    )
    made.write(file)
    return file


def calibrate_by_ratings(
    named: Named, *, rater: str = "me", name: str | None = None, out: str | Path | None = None
) -> Path:
    """Place the limits by what a person called ruined in a sweep or run, training nothing; returns the file.

    Raises:
        InputError: nothing, or everything, was called ruined; or the rated runs differ in what limits belong to.
    """
    subject = "calibrate --ratings"
    labels = read_labels(runs.find_sweep_or_run(named_by(named), subject="calibrate"), rater)
    if not (labels.ruined and labels.harmless):
        message = f"{rater} has called {'everything' if labels.ruined else 'nothing'} ruined"
        who = () if rater == "me" else ("--rater", rater)
        hint = f"limits lie between both; `both bad` says it: {command('lorasweep', 'rate', named_by(named), *who)}"
        raise InputError(Problem(named_by(named), message, hint), subject=subject)
    found = {}
    for run in labels.runs:
        recipe = config.read_recorded(run.path / RECIPE_FILE, to_cook=False)
        fingerprint = bases.fingerprint(recipe)
        found[digest(calibration.conditions(recipe, fingerprint))] = recipe, fingerprint
    if len(found) > 1:
        message = "the rated runs differ in base, kind of dataset, weight or guidance: limits belong to one of each"
        raise InputError(Problem(named_by(named), message, "rate runs of one"), subject=subject)
    ((recipe, fingerprint),) = found.values()
    holds_for = calibration.conditions(recipe, fingerprint)
    file = _writable(out, holds_for)
    said = {"ruined": list(labels.ruined), "harmless": list(labels.harmless)}
    made = fit_labels(
        labels.harmless,
        labels.ruined,
        name=name or f"{named} by {rater}",
        now=calibration.find(recipe, fingerprint).calibration,
        holds_for=holds_for,
        made={"ratings": named_by(named), "rater": rater, **said, **_now()},
    )
    made.write(file)
    return file


def _writable(out: str | Path | None, holds_for: Mapping[str, Any]) -> Path:
    if out is None:
        paths.require_writable(calibration.own_folder())
        return calibration.own_path(holds_for)
    file = paths.typed(out)
    paths.require_replaceable(file, lambda there: bool(calibration.read(there)), option="--out")
    return file


def _now() -> dict[str, Any]:
    return {"when": date.today().isoformat(), "lorasweep": lorasweep.__version__}


def _nulls(
    recipe: Recipe, planned: Plan, folder: Path, controls: Mapping[Path, Control]
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


def _controls_json(controls: Mapping[Path, Control], nulls: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
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
