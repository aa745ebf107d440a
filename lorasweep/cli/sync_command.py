"""`lorasweep sync`: rebuild the MLflow mirror from the run folders."""

from __future__ import annotations

import argparse
from contextlib import suppress

from lorasweep.core.errors import InputError


def run(options: argparse.Namespace) -> int:
    """Bring the named sweeps (or all) up to date in MLflow; 1 when something is still missing."""
    from lorasweep.results import runs, tracking

    named = [runs.find_sweep(name, subject="sync") for name in options.sweeps]
    folders = named or runs.sweep_folders()
    for folder in folders:
        with suppress(InputError):  # a damaged sweep.yaml: what can be mirrored of it is
            runs.settle(folder)
    return tracking.sync(folders, as_json=options.json)
