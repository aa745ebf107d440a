"""`lorasweep status`: where sweeps stand, from the run folders alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lorasweep import paths
from lorasweep.cli.sweep_folder import sweep_folders
from lorasweep.errors import InputError, Problem
from lorasweep.sweep import document, state, table


def run(options: argparse.Namespace) -> int:
    """Print one sweep's trials, or a line per sweep; returns the exit code."""
    folders = [_folder(options.sweep)] if options.sweep else sweep_folders()
    states = [state.read_state(folder) for folder in folders]
    if options.json:
        documents = [document.status_json(each) for each in states]
        print(json.dumps(documents[0] if options.sweep else documents, indent=1))
        return 0
    if not states:
        print(f"no sweeps in {paths.outputs()} yet; start one with: lorasweep sweep quickstart")
    for each in states:
        table.print_state(each)
    return 0


def _folder(name: str) -> Path:
    folder = paths.outputs() / Path(name).stem
    if not folder.is_dir():
        known = ", ".join(path.name for path in sweep_folders()) or "none yet"
        raise InputError(
            Problem(name, f"no such sweep in {paths.outputs()}", f"known: {known}"), subject="status"
        )
    return folder
