"""`lorasweep train`, `fork`, `sweep`, `judge`, `calibrate`: hand recipes or files to `api`, and show what came out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lorasweep import config
from lorasweep.api import results, training
from lorasweep.cli.plan_view.tables import owned
from lorasweep.config import SweepSpec
from lorasweep.config.sweep_spec import Constraint
from lorasweep.core import files, paths
from lorasweep.core.errors import ConfigError, InputError, Problem
from lorasweep.core.printable import command
from lorasweep.core.records import Plan, Recipe, Status
from lorasweep.core.run_folder import REPORT_FILE, SHEET_FILE, RunFolder, SweepFolder
from lorasweep.plan.calibration import read as read_calibration
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.results import runs
from lorasweep.results.handles import EndedRun, Run
from lorasweep.results.report.notebook import HEADLINE
from lorasweep.sweep import beforehand, comparable, judge_files
from lorasweep.sweep.ranking import leaderboard, table
from lorasweep.sweep.ranking.announce import MirrorReport
from lorasweep.sweep.single import TrialResult

_EXIT_CODES = {Status.COMPLETED: 0, Status.PRUNED: 0, Status.INVALID: 2}
_EXIT_CODES |= dict.fromkeys((Status.CANCELLED, Status.WAITING), 130)
_GOES_ON = "the same command goes on where it stopped"
_NEXT = {
    **dict.fromkeys((Status.CANCELLED, Status.WAITING, Status.RUNNING), _GOES_ON),
    Status.CRASHED: "the traceback is in error.txt there; the same command tries it again from its last step",
    Status.OUT_OF_MEMORY: "try train.batch_size=1, or free some memory and run the same command again",
}
NOT_KEPT = 3
# Keys of what a run is made from, which may lie elsewhere now: all of it is known by its content (`Plan.material`).
_PLACES = {
    *("dataset.path", "dataset.holdout_path", "regularization.reg_images.path", "adapter.init"),
    *("base.path", "base.weights", "base.adapter", "sample.base"),
}


def run_train(options: argparse.Namespace) -> int:
    """Cook, or continue, or show a recipe that is already cooked; returns the exit code."""
    if options.source is not None:
        return _again(options)
    recipe = training.compose(*options.overrides)
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
    moved = [text for text in _not_of_the_recipe(options.overrides) if text.split("=")[0] in _PLACES]
    run = runs.find_run(options.source, subject="train --from", to_cook=not moved)
    recipe = training.compose(run.recipe, *options.overrides)
    planned = plan_one(recipe)
    if run.material and run.material != planned.material:
        if moved:
            raise InputError(_other_material(run, planned, moved), subject="train --from")
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
    """Where results go, and where files lie, may be said anew; anything else would be another recipe."""
    keys = {text: text.split("=")[0] for text in overrides}
    wrong = [text for text, key in keys.items() if key.split(".")[0] not in ("tracking", "launcher")]
    if wrong := [text for text in wrong if keys[text] not in _PLACES]:
        hint = "to change a recipe: lorasweep fork TRIAL KEY=VALUE"
        problems = [Problem(text, "would make it another recipe", hint) for text in wrong]
        raise InputError(problems, subject="train --from")
    return overrides


def _other_material(run: runs.RecordedRun, planned: Plan, moved: Sequence[str]) -> Problem:
    """Say what is not at its new place: images are compared by their bytes."""
    had = {image.get("sha256") for image in RunFolder(run.folder).plan.get("images", ())}
    others = [image for image in planned.images if image.sha256 not in had]
    what = f"{len(others)} of the {len(planned.images)} images there are" if others else "what is there is"
    hint = f"as a variation of it: {command('lorasweep', 'fork', run.name, *moved)}"
    also = "" if others else ": images are missing, captions, repeats or split are others, or the base is"
    return Problem(" ".join(moved), f"cannot come out the same: {what} not what {run.name} was made from{also}", hint)


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
    run = training.run_trial(recipe, folder, planned=planned, fresh=fresh, parent=parent, quiet=quiet)
    result = run.ended
    if result.halted:
        print(f"stopped early: {result.halted}", file=sys.stderr)
    elif result.record.status.is_final and not result.cooked and not result.record.reused_from:
        if not quiet:
            print(f"already cooked: {run.folder}")
        if fresh and parent is None:
            again = command("lorasweep", "train", "--from", run.name)
            print(f"note  --fresh takes no other run's result; to cook this one again: {again}", file=sys.stderr)
    return run


def plan_one(recipe: Recipe) -> Plan:
    """Plan a recipe, and print what to know first."""
    (planned,) = training.plan(recipe).plans.values()
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


def run_fork(options: argparse.Namespace) -> int:
    """Compose the parent's recipe with the overrides on top, cook it, remember the parent; the exit code."""
    parent = runs.find_run(options.run, subject="fork", to_cook=False)
    if not options.overrides:
        hint = f"to cook it again as it is: {command('lorasweep', 'train', '--from', parent.name)}"
        raise InputError(Problem("KEY=VALUE", "a fork must change something", hint), subject="fork")
    recipe = training.compose(parent.recipe, *options.overrides)
    planned = plan_one(recipe)
    if recipe.fingerprint() == parent.recipe.fingerprint():
        changed = " ".join(options.overrides)
        problem = Problem(changed, "changes nothing: that is what the parent has already")
        raise InputError(problem, subject="fork")
    variation = {"parent": parent.name, "overrides": list(options.overrides)}
    run = cook_one(recipe, planned, quiet=options.json, fresh=options.fresh, parent=variation)
    if options.json:
        print(json.dumps({**result_json(run), **variation}, indent=1))
    else:
        print_result(run)
        print(f"forked from {parent.name}: {' '.join(options.overrides)}")
    return exit_code(run.ended)


def run_sweep(options: argparse.Namespace) -> int:
    """Run or continue a sweep; returns 0 when every trial has its answer, 130 when interrupted, else 1."""
    return run_spec(
        config.load_sweep(options.sweep, options.overrides),
        extend=options.extend,
        repeats=options.max_repeats if options.until_decided else None,
        fresh=options.fresh,
        as_json=options.json,
    )


def run_multirun(name: str | None, overrides: Sequence[str]) -> int:
    """Run or continue what Hydra's `-m` was asked for: a sweep, or nothing but overrides; as `run`."""
    spec = config.sweep_of_overrides(overrides) if name is None else config.load_sweep(name, overrides)
    return run_spec(spec)


def run_spec(
    spec: SweepSpec, *, extend: bool = False, repeats: int | None = None, fresh: bool = False, as_json: bool = False
) -> int:
    """Run or continue a sweep that is checked, and print what came out; as `run`."""
    plans = training.plan_sweep(spec)
    of_space = () if spec.search is None else spec.search.warnings
    names = [(arm, arm.name) for arm in spec.arms] or [(arm, " ".join(arm.overrides)) for arm in spec.known]
    of_arms = owned([(name, plans[arm.name].warnings) for arm, name in names])
    told = (*beforehand.duplicates(spec, plans), *comparable.asked_otherwise(spec, plans))
    print_warnings((*of_space, *told, *of_arms))
    with table.live(quiet=as_json) as show:
        ran = training.run_sweep(spec, plans=plans, extend=extend, repeats=repeats, fresh=fresh, on_change=show)
    result = ran.ended
    if result.halted:
        print(f"stopped early: {result.halted}", file=sys.stderr)
    if result.interrupted:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
    snapshot = result.state
    if as_json:
        print(json.dumps(leaderboard.status_json(snapshot), indent=1))
    else:
        table.print_leaderboard(snapshot)
        _print_whereabouts(ran.folder, result.mirrored)
    return result.exit_code


def _print_cost(folder: Path) -> None:
    """Say what pruning saved and what the estimate was worth, once there is something to say."""
    pruning, timing = SweepFolder(folder).pruning, SweepFolder(folder).timing
    if pruning.get("pruned"):
        saved, spent = pruning["saved_steps"], pruning["spent_steps"]
        share = saved / (saved + spent)
        print(f"pruning        {pruning['pruned']} trials stopped early, {saved} steps saved ({share:.0%})")
    if "error" in timing:
        minutes = (timing[key] / 60 for key in ("real_s", "estimated_s"))
        print("time           {:.1f} min, estimated {:.1f} min".format(*minutes))


def _print_whereabouts(folder: Path, mirrored: MirrorReport) -> None:
    for what, path in (("report", folder / REPORT_FILE), ("contact sheet", folder / SHEET_FILE)):
        if path.exists():
            print(f"{what:<13}  {path}")
    print(f"run folders    {folder}")
    _print_cost(folder)
    if mirrored.message:
        print(f"MLflow         {mirrored.message}", file=sys.stdout if mirrored.ok else sys.stderr)
    print("look at them   lorasweep ui")


def run_judge(options: argparse.Namespace) -> int:
    """Judge and show what came out; returns 3 when a requirement is not kept, else as `train` and `sweep` do."""
    required = judge_files.requirements(options.require)
    asked, plans = judge_files.planned(judge_files.question(options.overrides, steps=options.steps), required)
    if len(asked.arms) > 1:
        code = run_spec(asked, as_json=options.json)
        judged: Sequence[Run] = results.open_sweep(asked.name).trials
    else:
        one = _judge_one(asked, plans, as_json=options.json)
        code, judged = exit_code(one.ended), [one]
    if code:
        return code
    broken = list(_broken(judged, required))
    for text in broken:
        print(f"not kept    {text}", file=sys.stderr)
    return NOT_KEPT if broken else 0


def _judge_one(asked: SweepSpec, plans: Mapping[str, Plan], *, as_json: bool) -> EndedRun:
    (planned,) = plans.values()
    print_warnings(planned.warnings)
    judged = training.judge(asked=asked, plans=plans, quiet=as_json)
    assert isinstance(judged, EndedRun), "one arm makes one run"
    if as_json:
        files = {key: value for key, value in _files(judged).items() if value}
        print(json.dumps({**result_json(judged), **files}, indent=1))
        return judged
    print_result(judged)
    for what, file in _files(judged).items():
        if file:
            print(f"{what:<11} {file}")
    if (sheet := judged.folder / SHEET_FILE).exists():
        print(f"sheet       {sheet}")
    return judged


def _files(judged: Run) -> dict[str, str | None]:
    """The files that the verdict's steps stand for."""
    options = judged.recipe.adapter.options
    by_step: dict[Any, str] = dict(zip(options["steps"], options["paths"], strict=True))
    return {f"{what} file": by_step.get(judged.verdict.get(f"{what}_at")) for what in ("done", "burned")}


def _broken(judged: Sequence[Run], required: Sequence[Constraint]) -> Iterator[str]:
    """Bounds that the kept file of a run does not keep; what is not measured keeps none."""
    for each in judged:
        for bound in required:
            value = each.metrics.get(bound.metric)
            if value is None:
                why = each.missing.get(bound.metric, "not measured")
                yield f"{each.name}: {bound}, and it is missing: {why}"
            elif bound.violation(value) > 0:
                yield f"{each.name}: {bound}, got {value:.3f}"


def run_calibrate(options: argparse.Namespace) -> int:
    """Calibrate, and print the limits; returns the exit code."""
    from lorasweep.api import calibration

    words, to = options.overrides, {"name": options.name, "out": options.out}
    if options.ratings:
        if words:
            problem = Problem(words[0], "has no effect: the recipe is that of the rated runs", "take it out")
            raise ConfigError(problem, subject="calibrate --ratings")
        file = calibration.calibrate_by_ratings(options.ratings, rater=options.rater, **to)
    else:
        how = {"times": options.times, "rungs": options.rungs, "seeds": options.seeds, **to}
        with table.live(quiet=options.json) as show:
            file = calibration.calibrate(
                *words, on_plan=lambda own: print_warnings(own.warnings), on_change=show, **how
            )
    if options.json:
        print(json.dumps({"file": str(file), **files.read_json(file)}, indent=1))
        return 0
    made = read_calibration(file)
    print(f"{'symptom':<16}{'harmless':>10}{'limit':>10}{'ruined':>15}")
    for symptom in SYMPTOMS:
        limit = made.limits.get(symptom.name)
        if limit is None:
            print(f"{symptom.name:<16}  {made.why_unplaced(symptom.name)}")
        else:
            ruined = "by definition" if limit.burned is None else f"{limit.burned:.3f}"
            print(f"{symptom.name:<16}{limit.null:>10.3f}{limit.limit:>10.3f}{ruined:>15}")
    print(f"learned from F = {made.learned:.2f}; digest {made.digest}")
    print(f"calibration  {file}")
    return 0
