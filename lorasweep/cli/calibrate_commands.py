"""`lorasweep calibrate`: where overcooking begins on a base."""

from __future__ import annotations

import argparse
import json
import sys

from lorasweep.api import calibration, training
from lorasweep.cli.cook_commands import print_warnings
from lorasweep.core import files
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.plan.symptoms import SYMPTOMS
from lorasweep.sweep.ranking import table


def run_calibrate(options: argparse.Namespace) -> int:
    """Calibrate, and print the limits; returns the exit code."""
    words, to = options.overrides, {"name": options.name, "out": options.out}
    if options.ratings:
        if words:
            problem = Problem(words[0], "has no effect: the recipe is that of the rated runs", "take it out")
            raise ConfigError(problem, subject="calibrate --ratings")
        done = calibration.calibrate_by_ratings(options.ratings, rater=options.rater, **to)
    else:
        planned = training.plan(training.compose(*words))
        print_warnings(planned.warnings)
        (own,) = planned.plans.values()
        how = {"times": options.times, "rungs": options.rungs, "seeds": options.seeds}
        with table.live(quiet=options.json) as show:
            done = calibration.calibrate(*words, planned=own, on_change=show, **how, **to)
    if done.file is None or done.calibration is None:
        assert done.ended is not None
        print(done.ended.halted or "interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130 if done.ended.interrupted else 1
    if options.json:
        print(json.dumps({"file": str(done.file), **files.read_json(done.file)}, indent=1))
        return 0
    made = done.calibration
    print(f"{'symptom':<16}{'harmless':>10}{'limit':>10}{'ruined':>15}")
    for symptom in SYMPTOMS:
        limit = made.limits.get(symptom.name)
        if limit is None:
            print(f"{symptom.name:<16}  {made.why_unplaced(symptom.name)}")
        else:
            ruined = "by definition" if limit.burned is None else f"{limit.burned:.3f}"
            print(f"{symptom.name:<16}{limit.null:>10.3f}{limit.limit:>10.3f}{ruined:>15}")
    print(f"learned from F = {made.learned:.2f}; digest {made.digest}")
    print(f"calibration  {done.file}")
    return 0
