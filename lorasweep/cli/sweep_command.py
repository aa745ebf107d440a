"""`lorasweep sweep`: plan every arm, hand the trials to the driver, show what came out."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lorasweep import config, paths, plan
from lorasweep.cli.output_folder import require_writable
from lorasweep.config import SweepSpec
from lorasweep.errors import ConfigError, InputError, Problem
from lorasweep.records import Plan
from lorasweep.report import contact_sheet
from lorasweep.sweep import document, driver, table
from lorasweep.tracking.process import Mirror


def run(options: argparse.Namespace) -> int:
    """Run or continue a sweep; returns 0 when every trial has its answer, 130 when interrupted, else 1."""
    spec = config.load_sweep(options.sweep, options.overrides)
    plans = _plans(spec)
    for warning in dict.fromkeys(warning for each in plans.values() for warning in each.warnings):
        print(f"warning  {warning}", file=sys.stderr)
    folder = paths.outputs() / spec.name
    require_writable(folder)

    mirror = Mirror(folder, spec.tracking) if spec.tracking.name == "mlflow" else None
    with table.live(spec, quiet=options.json) as view:
        result = driver.run_sweep(
            spec,
            plans,
            folder=folder,
            extend=options.extend,
            repeats=options.max_repeats if options.until_decided else None,
            fresh=options.fresh,
            on_change=view.update,
            on_trial_end=lambda: contact_sheet.write_contact_sheet(folder),
            mirror=mirror,
        )
    if result.halted:
        print(f"stopped early: {result.halted}", file=sys.stderr)
    if result.interrupted:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
    snapshot = result.state
    if options.json:
        print(json.dumps(document.status_json(snapshot), indent=1))
    else:
        table.print_leaderboard(snapshot)
        _print_whereabouts(folder, result.mirror_message)
    return result.exit_code


def _plans(spec: SweepSpec) -> dict[str, Plan]:
    """Plan every arm; the problems of all arms are reported together."""
    plans: dict[str, Plan] = {}
    problems: list[Problem] = []
    for arm in spec.arms:
        try:
            plans[arm.name] = plan.make_plan(arm.recipe)
        except InputError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise ConfigError(problems, subject=f"sweep `{spec.name}`")
    return plans


def _print_whereabouts(folder: Path, mirror_message: str) -> None:
    """Say where to look next."""
    sheet = folder / "contact_sheet.png"
    if sheet.exists():
        print(f"contact sheet  {sheet}")
    print(f"run folders    {folder}")
    if mirror_message:
        print(f"MLflow         {mirror_message}", file=sys.stderr if "sync" in mirror_message else sys.stdout)
    print("look at them   lorasweep ui")
