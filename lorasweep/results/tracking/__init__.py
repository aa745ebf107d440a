"""The only door to MLflow, which mirrors the run folders and can be rebuilt from them at any time.

    reading.py          what lies in a sweep folder
    content.py          what one MLflow run should show, of a trial; of a sweep: sweep_content.py;
                        with the words from notes.py and the params from params.py
    address.py          the store's address, without its secrets wherever it is shown
    store.py            where MLflow keeps its runs
    push.py             what a run was sent so far, and sending what it lacks
    model.py            the best adapter of a finished sweep as a model
    mirror.py           a sweep folder -> a parent run and its children
    view.py             the saved view of a sweep, in the words of MLflow's UI
    process.py          mirroring in a process of its own, which a sweep never waits for
    ui.py               MLflow's own UI over the store

Importing this package, or `process`, does not import mlflow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lorasweep.core.errors import InputError

__all__ = ["sync"]


def sync(folders: Sequence[Path], *, as_json: bool = False) -> int:
    """Mirror sweep folders and say what was done: `lorasweep sync`.

    Returns:
        0 when MLflow now shows everything, 1 when something could not be mirrored.

    Raises:
        InputError: the store's address is none.
    """
    from lorasweep.results.tracking import mirror
    from lorasweep.results.tracking.address import address_problem, masked, masked_stderr, tracking_uri

    if wrong := address_problem(tracking_uri()):
        raise InputError(wrong, subject="sync")
    with masked_stderr():
        reports = mirror.sync_all(folders)
    if as_json:
        print(json.dumps({name: asdict(report) for name, report in reports.items()}, indent=1))
    else:
        print(f"MLflow store: {masked(tracking_uri())}")
        for name, report in reports.items():
            print(f"{name}: {report.runs} runs, {report.created} new, {report.updated} brought up to date")
            for problem in report.problems:
                print(f"  {problem}")
    return 1 if any(report.problems for report in reports.values()) else 0
