"""`lorasweep report`: a sweep's answer as one page, HTML and Markdown."""

from __future__ import annotations

import argparse
import json
import webbrowser
from pathlib import Path

from lorasweep import runs
from lorasweep.cli.output_folder import require_writable


def run(options: argparse.Namespace) -> int:
    """Write the pages, say where they are; returns the exit code."""
    from lorasweep.report.write import write_report

    folder = runs.find_sweep(options.sweep, subject="report")
    out = Path(options.out).expanduser() if options.out else None
    if out is not None:
        require_writable(out)
    page, text = write_report(folder, out)
    if options.json:
        print(json.dumps({"html": str(page), "markdown": str(text)}, indent=1))
    else:
        print(f"report    {page}\nmarkdown  {text}")
    if options.open:
        webbrowser.open(page.as_uri())
    return 0
