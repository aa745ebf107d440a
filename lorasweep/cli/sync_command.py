"""`lorasweep sync`: rebuild the MLflow mirror from the run folders."""

from __future__ import annotations

import argparse


def run(options: argparse.Namespace) -> int:
    """Bring the named sweeps (or all) up to date in MLflow; 1 when something is still missing."""
    from lorasweep import runs, tracking

    named = [runs.find_sweep(name, subject="sync") for name in options.sweeps]
    return tracking.sync(named or runs.sweep_folders(), as_json=options.json)
