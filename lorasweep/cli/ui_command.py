"""`lorasweep ui`: the MLflow UI over our store, on loopback."""

from __future__ import annotations

import argparse


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted; returns the server's exit code."""
    from lorasweep.results.tracking import ui

    return ui.serve(options.port, open_browser=options.open)
