"""`lorasweep sync`: rebuild the MLflow mirror from the run folders."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from lorasweep import api
from lorasweep.results.tracking.address import masked, tracking_uri


def run(options: argparse.Namespace) -> int:
    """Bring the named sweeps (or all) up to date in MLflow; 1 when something is still missing."""
    reports = api.sync(*options.sweeps)
    if options.json:
        print(json.dumps({name: asdict(report) for name, report in reports.items()}, indent=1))
    else:
        print(f"MLflow store: {masked(tracking_uri())}")
        for name, report in reports.items():
            print(f"{name}: {report.runs} runs, {report.created} new, {report.updated} brought up to date")
            for problem in report.problems:
                print(f"  {problem}")
    return 1 if any(report.problems for report in reports.values()) else 0
