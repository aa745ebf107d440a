"""`lorasweep sync`: rebuild the MLflow mirror from the run folders."""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from dataclasses import asdict

from lorasweep.core.errors import InputError
from lorasweep.results import runs
from lorasweep.results.tracking import mirror
from lorasweep.results.tracking.address import address_problem, masked, masked_stderr, tracking_uri


def run(options: argparse.Namespace) -> int:
    """Bring the named sweeps (or all) up to date in MLflow; 1 when something is still missing."""
    folders = [runs.find_sweep(name, subject="sync") for name in options.sweeps] or runs.sweep_folders()
    for folder in folders:
        with suppress(InputError):  # a damaged sweep.yaml: what can be mirrored of it is
            runs.settle(folder)
    if wrong := address_problem(tracking_uri()):
        raise InputError(wrong, subject="sync")
    with masked_stderr():
        reports = {folder.name: mirror.sync_folder(folder) for folder in folders}
    if options.json:
        print(json.dumps({name: asdict(report) for name, report in reports.items()}, indent=1))
    else:
        print(f"MLflow store: {masked(tracking_uri())}")
        for name, report in reports.items():
            print(f"{name}: {report.runs} runs, {report.created} new, {report.updated} brought up to date")
            for problem in report.problems:
                print(f"  {problem}")
    return 1 if any(report.problems for report in reports.values()) else 0
