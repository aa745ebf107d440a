"""`lorasweep train`, `fork`, `sweep`, `judge`, `calibrate`: hand recipes or files to `api`, and show what came out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorasweep import config
from lorasweep.api import training
from lorasweep.core import files
from lorasweep.core.console import text_console, text_table
from lorasweep.core.errors import ConfigError, InputError, Problem
from lorasweep.core.printable import command
from lorasweep.core.records import Status
from lorasweep.core.run_folder import REPORT_FILE, SHEET_FILE, RunFolder, SweepFolder
from lorasweep.plan.calibration import read as read_calibration
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.results.handles import EndedRun, EndedSweep
from lorasweep.sweep.ranking import leaderboard, table
from lorasweep.sweep.ranking.announce import MirrorReport
from lorasweep.sweep.ranking.state import are_trained

_GOES_ON = "the same command goes on where it stopped"
_NEXT = {
    **dict.fromkeys((Status.CANCELLED, Status.WAITING, Status.RUNNING), _GOES_ON),
    Status.CRASHED: "the traceback is in error.txt there; the same command tries it again from its last step",
    Status.OUT_OF_MEMORY: "try train.batch_size=1, or free some memory and run the same command again",
}
NOT_KEPT = 3


def run_train(options: argparse.Namespace) -> int:
    """Cook, or continue, or show a recipe that is already cooked; returns the exit code."""
    if options.source is not None:
        return _again(options)
    run = training.run_trial(
        training.compose(*options.overrides), fresh=options.fresh, warn=print_warning, quiet=options.json
    )
    _print_special(run, quiet=options.json, fresh=options.fresh)
    if options.json:
        print(json.dumps(result_json(run), indent=1))
    else:
        print_result(run)
    return run.ended.exit_code


def _again(options: argparse.Namespace) -> int:
    """Cook a recorded recipe once more and compare; 1 when it came out otherwise."""
    if options.fresh:
        problem = Problem("--fresh", "says nothing beside --from, which takes no other result", "leave it out")
        raise InputError(problem, subject="train --from")
    again, found = training.train_again(options.source, *options.overrides, warn=print_warning, quiet=options.json)
    _print_special(again, quiet=options.json)
    if found is None:
        print(f"{again.ended.record.status.value}  {again.ended.record.reason}".rstrip(), file=sys.stderr)
        return again.ended.exit_code
    if options.json:
        compared = {"compared_with": str(found.before), **found.document()}
        print(json.dumps({**result_json(again), **compared}, indent=1))
    else:
        print(found.sentence())
        print("\n".join(found.details()))
        print(f"run folder  {again.folder}")
    return 0 if found.same else 1


def _print_special(run: EndedRun, *, quiet: bool, fresh: bool = False) -> None:
    """Say why it stopped, or that there was nothing to do."""
    result = run.ended
    if result.halted:
        print(f"stopped early: {result.halted}", file=sys.stderr)
    elif result.record.status.is_final and not result.cooked and not result.record.reused_from:
        if not quiet:
            print(f"already cooked: {run.folder}")
        if fresh:
            again = command("lorasweep", "train", "--from", run.name)
            print(f"note  --fresh takes no other run's result; to cook this one again: {again}", file=sys.stderr)


def print_warning(warning: str) -> None:
    """Print what is allowed, but worth knowing; stdout may carry JSON."""
    print(f"warning  {warning}", file=sys.stderr)


def result_json(run: EndedRun) -> dict[str, Any]:
    """Return what `--json` prints about a run."""
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
    for name in leaderboard.HEADLINE:
        if name in result["metrics"]:
            print(f"  {name:<24} {result['metrics'][name]:6.3f}{_error(result['metrics'], name)}")
    if doubt := result.get("calibration", {}).get("reason"):
        print(f"note        {doubt}")
    print(f"run folder  {run.folder}  (every metric in metrics.json)")
    if run.ended.mirrored.message:
        print(f"MLflow      {run.ended.mirrored.message}")
    if run.ended.exit_code == 0:
        following = [command("lorasweep", "report", run.folder.parent.name)]
        if are_trained([RunFolder(run.folder).recipe]):
            following.append(command("lorasweep", "export", run.name))
        print(f"next        {'; '.join(following)}")
    elif record.status in _NEXT:
        print(f"next        {_NEXT[record.status]}")


def _error(metrics: Mapping[str, float], name: str) -> str:
    error = metrics.get(f"{name}_se")
    return "" if error is None else f", standard error {error:.3f}"


def run_fork(options: argparse.Namespace) -> int:
    """Cook a run's recipe with changes; returns the exit code."""
    run = training.fork(options.run, *options.overrides, fresh=options.fresh, warn=print_warning, quiet=options.json)
    _print_special(run, quiet=options.json)
    variation = run.parent
    if options.json:
        print(json.dumps({**result_json(run), **variation}, indent=1))
    else:
        print_result(run)
        print(f"forked from {variation['parent']}: {' '.join(variation['overrides'])}")
    return run.ended.exit_code


def run_sweep(options: argparse.Namespace) -> int:
    """Run or continue a sweep; returns 0 when every trial has its answer, 130 when interrupted, else 1."""
    if options.sweep is None:
        rows = config.named_sweeps().items()
        text_console(stderr=True).print(text_table("sweeps, by name", texts=["name", "question"], rows=rows))
        hint = "lorasweep sweep quickstart, or a YAML file of yours"
        raise ConfigError(Problem("NAME|FILE", "must say which sweep", hint), subject="the command line")
    with table.live(quiet=options.json) as show:
        ran = training.run_sweep(
            options.sweep,
            *options.overrides,
            extend=options.extend,
            repeats=options.max_repeats if options.until_decided else None,
            fresh=options.fresh,
            warn=print_warning,
            on_change=show,
        )
    return _print_sweep(ran, as_json=options.json)


def run_multirun(name: str | None, overrides: Sequence[str]) -> int:
    """Run or continue what Hydra's `-m` was asked for: a sweep, or nothing but overrides; as `run_sweep`."""
    sweep = config.sweep_of_overrides(overrides) if name is None else config.load_sweep(name, overrides)
    with table.live() as show:
        ran = training.run_sweep(sweep, warn=print_warning, on_change=show)
    return _print_sweep(ran)


def _print_sweep(ran: EndedSweep, *, as_json: bool = False) -> int:
    """Print what came out; returns the exit code."""
    result = ran.ended
    if result.halted:
        print(f"stopped early: {result.halted}", file=sys.stderr)
    if result.interrupted:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
    if as_json:
        print(json.dumps(leaderboard.status_json(result.state), indent=1))
    else:
        table.print_leaderboard(result.state)
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
    with table.live(quiet=options.json) as show:
        judged = training.judge(
            *options.overrides,
            steps=options.steps,
            require=options.require,
            warn=print_warning,
            on_change=show,
            quiet=options.json,
        )
    if isinstance(judged, EndedSweep):
        code = _print_sweep(judged, as_json=options.json)
    else:
        code = _print_judged(judged, options)
    if code:
        return code
    unkept = training.unkept(judged, options.require)
    for text in unkept:
        print(f"not kept    {text}", file=sys.stderr)
    return NOT_KEPT if unkept else 0


def _print_judged(judged: EndedRun, options: argparse.Namespace) -> int:
    """Print how the files of one arm came out; returns the exit code."""
    _print_special(judged, quiet=options.json)
    knobs = judged.recipe.adapter.options
    by_step: dict[Any, str] = dict(zip(knobs["steps"], knobs["paths"], strict=True))
    found = {f"{what} file": by_step.get(judged.verdict.get(f"{what}_at")) for what in ("done", "burned")}
    if options.json:
        named = {what: file for what, file in found.items() if file}
        print(json.dumps({**result_json(judged), **named}, indent=1))
        return judged.ended.exit_code
    print_result(judged)
    for what, file in found.items():
        if file:
            doubt = judged.verdict.get("burned_doubt") if what == "burned file" else None
            print(f"{what:<11} {file}{f', {doubt}' if doubt else ''}")
    if (sheet := judged.folder / SHEET_FILE).exists():
        print(f"sheet       {sheet}")
    return judged.ended.exit_code


def run_calibrate(options: argparse.Namespace) -> int:
    """Calibrate, and print the limits; returns the exit code."""
    from lorasweep.api import calibration

    words, to = options.overrides, {"name": options.name, "out": options.out}
    how = {key: given for key in ("times", "rungs", "seeds") if (given := getattr(options, key)) is not None}
    if options.ratings:
        unread, why = [*words, *(f"--{key}" for key in how)], "nothing is cooked, the recipe is that of the rated runs"
    else:
        unread, why = ["--rater"] * (options.rater != "me"), "only --ratings reads answers"
    if unread:
        problems = [Problem(word, f"has no effect: {why}", "take it out") for word in unread]
        raise ConfigError(problems, subject="calibrate")
    if options.ratings:
        file = calibration.calibrate_by_ratings(options.ratings, rater=options.rater, **to)
    else:
        with table.live(quiet=options.json) as show:
            file = calibration.calibrate(*words, warn=print_warning, on_change=show, **how, **to)
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
