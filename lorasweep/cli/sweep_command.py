"""`lorasweep sweep`: plan every arm, hand the trials to the driver, show what came out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lorasweep import api, config
from lorasweep.cli import train_command
from lorasweep.cli.plan_view.tables import owned
from lorasweep.config import SweepSpec
from lorasweep.core.run_folder import REPORT_FILE, SHEET_FILE, SweepFolder
from lorasweep.sweep import beforehand
from lorasweep.sweep.ranking import leaderboard, table
from lorasweep.sweep.ranking.announce import MirrorReport
from lorasweep.sweep.ranking.state import SweepState


def run(options: argparse.Namespace) -> int:
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
    plans = api.plan_sweep(spec)
    of_space = () if spec.search is None else spec.search.warnings
    of_arms = owned([(arm.name, plans[arm.name].warnings) for arm in spec.arms or spec.known])
    train_command.print_warnings((*of_space, *beforehand.duplicates(spec, plans), *of_arms))
    with table.live(quiet=as_json) as show:
        ran = api.run_sweep(spec, plans=plans, extend=extend, repeats=repeats, fresh=fresh, on_change=show)
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
        if spec.search is not None:
            _print_best_point(snapshot)
        _print_whereabouts(ran.folder, result.mirrored)
    return result.exit_code


def _print_best_point(snapshot: SweepState) -> None:
    """Say what the best recipe is when it is a point of the space: its name does not tell."""
    if best := leaderboard.best_trial(snapshot):
        print(f"best           {best.arm}: {' '.join(best.overrides)}")


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
    """Say where to look next."""
    for what, path in (("report", folder / REPORT_FILE), ("contact sheet", folder / SHEET_FILE)):
        if path.exists():
            print(f"{what:<13}  {path}")
    print(f"run folders    {folder}")
    _print_cost(folder)
    if mirrored.message:
        print(f"MLflow         {mirrored.message}", file=sys.stdout if mirrored.ok else sys.stderr)
    print("look at them   lorasweep ui")
