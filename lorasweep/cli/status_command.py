"""`lorasweep status`: where sweeps stand, from the run folders alone."""

from __future__ import annotations

import argparse
import json
import sys

from lorasweep import api
from lorasweep.core import paths
from lorasweep.core.errors import InputError
from lorasweep.sweep.ranking import leaderboard, table
from lorasweep.sweep.ranking.state import SweepState


def run(options: argparse.Namespace) -> int:
    """Print one sweep's trials, or every sweep's; 1 when one of them cannot be read."""
    if options.sweep:
        states, unread = [api.status(options.sweep)], 0
    else:
        states, unread = _all()
    if options.json:
        documents = [leaderboard.status_json(each) for each in states]
        print(json.dumps(documents[0] if options.sweep else documents, indent=1))
    elif not states and not unread:
        print(f"no sweeps in {paths.outputs()} yet; start one with: lorasweep sweep quickstart")
    else:
        for each in states:
            table.print_state(each)
    return 1 if unread else 0


def _all() -> tuple[list[SweepState], int]:
    """Every sweep that can be read, and how many cannot; a damaged one must not hide the others."""
    states, unread = [], 0
    for sweep in api.sweeps():
        try:
            states.append(sweep.state)
        except InputError as error:
            unread += 1
            print(error, file=sys.stderr)
    return states, unread
