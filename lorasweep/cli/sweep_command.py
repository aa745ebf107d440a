"""`lorasweep sweep`: plan every arm, hand the trials to the driver, show what came out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lorasweep import config, paths, plan
from lorasweep.cli.output_folder import require_writable
from lorasweep.config import SweepSpec
from lorasweep.errors import ConfigError, InputError, Problem
from lorasweep.plan.estimate import class_images_seconds, sweep_seconds, trial_seconds
from lorasweep.plan_view.warnings import owned
from lorasweep.records import Plan
from lorasweep.report import contact_sheet
from lorasweep.report.write import HTML_FILE, write_report
from lorasweep.sweep import beforehand, document, driver, leaderboard, table
from lorasweep.sweep.folder import PRUNING_FILE, read_or_none
from lorasweep.sweep.state import SweepState
from lorasweep.sweep.timing import TIMING_FILE
from lorasweep.tracking.process import Mirror


def run(options: argparse.Namespace) -> int:
    """Run or continue a sweep; returns 0 when every trial has its answer, 130 when interrupted, else 1."""
    return _run(
        config.load_sweep(options.sweep, options.overrides),
        extend=options.extend,
        repeats=options.max_repeats if options.until_decided else None,
        fresh=options.fresh,
        as_json=options.json,
    )


def run_multirun(name: str | None, overrides: Sequence[str]) -> int:
    """Run or continue what Hydra's `-m` was asked for: a sweep, or nothing but overrides; as `run`."""
    spec = config.sweep_of_overrides(overrides) if name is None else config.load_sweep(name, overrides)
    return _run(spec)


def _run(
    spec: SweepSpec,
    *,
    extend: bool = False,
    repeats: int | None = None,
    fresh: bool = False,
    as_json: bool = False,
) -> int:
    plans = _plans(spec)
    of_space = () if spec.search is None else spec.search.warnings
    of_arms = owned([(arm.name, plans[arm.name].warnings) for arm in spec.arms or spec.known])
    for warning in (*of_space, *beforehand.duplicates(spec, plans), *of_arms):
        print(f"warning  {warning}", file=sys.stderr)
    folder = paths.outputs() / spec.name
    require_writable(folder)

    mirror = Mirror(folder, spec.tracking) if spec.tracking.name == "mlflow" else None
    with table.live(spec, quiet=as_json) as view:
        result = driver.run_sweep(
            spec,
            plans,
            folder=folder,
            extend=extend,
            repeats=repeats,
            fresh=fresh,
            estimated_s=_estimate(spec, plans),
            on_change=view.update,
            on_trial_end=lambda: contact_sheet.write_contact_sheet(folder),
            on_end=lambda: write_report(folder),
            mirror=mirror,
        )
    if result.halted:
        print(f"stopped early: {result.halted}", file=sys.stderr)
    if result.interrupted:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
    snapshot = result.state
    if as_json:
        print(json.dumps(document.status_json(snapshot), indent=1))
    else:
        table.print_leaderboard(snapshot)
        if spec.search is not None:
            _print_best_point(snapshot)
        _print_whereabouts(folder, result.mirror_message)
    return result.exit_code


def _plans(spec: SweepSpec) -> dict[str, Plan]:
    """Plan every arm and every corner of the space; the problems of all are reported together."""
    plans: dict[str, Plan] = {}
    problems: list[Problem] = []
    for arm in spec.known:
        try:
            plans[arm.name] = plan.make_plan(arm.recipe)
        except InputError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if not problems:
        problems = beforehand.problems(spec, plans)
    if problems:
        raise ConfigError(problems, subject=f"sweep `{spec.name}`")
    return plans


def _estimate(spec: SweepSpec, plans: Mapping[str, Plan]) -> float:
    """How long the sweep is expected to take, s; of a pruned one, at most."""
    each_s = [trial_seconds(plans[arm.name], arm.recipe) for arm in spec.known]
    once_s = class_images_seconds((plans[arm.name], arm.recipe) for arm in spec.known)
    return sweep_seconds(each_s, spec.launcher, trials=spec.total, once_s=once_s)


def _print_best_point(snapshot: SweepState) -> None:
    """Say what the best recipe is when it is a point of the space: its name does not tell."""
    ranked = [trial for rank, trial in leaderboard.rank_trials(snapshot) if rank == 1]
    if ranked:
        print(f"best           {ranked[0].arm}: {' '.join(ranked[0].overrides)}")


def _print_cost(folder: Path) -> None:
    """Say what pruning saved and what the estimate was worth, once there is something to say."""
    pruning, timing = (read_or_none(folder / name) or {} for name in (PRUNING_FILE, TIMING_FILE))
    if pruning.get("pruned"):
        saved, spent = pruning["saved_steps"], pruning["spent_steps"]
        share = saved / (saved + spent)
        print(f"pruning        {pruning['pruned']} trials stopped early, {saved} steps saved ({share:.0%})")
    if "error" in timing:
        minutes = (timing[key] / 60 for key in ("real_s", "estimated_s"))
        print("time           {:.1f} min, estimated {:.1f} min".format(*minutes))


def _print_whereabouts(folder: Path, mirror_message: str) -> None:
    """Say where to look next."""
    for what, path in (("report", folder / HTML_FILE), ("contact sheet", folder / "contact_sheet.png")):
        if path.exists():
            print(f"{what:<13}  {path}")
    print(f"run folders    {folder}")
    _print_cost(folder)
    if mirror_message:
        print(f"MLflow         {mirror_message}", file=sys.stderr if "sync" in mirror_message else sys.stdout)
    print("look at them   lorasweep ui")
