"""`lorasweep report`: a sweep's answer as one page, HTML and Markdown."""

from __future__ import annotations

import argparse
import json
import webbrowser

from lorasweep import runs
from lorasweep.cli.output_folder import require_writable


def run(options: argparse.Namespace) -> int:
    """Write the pages, say where they are; returns the exit code."""
    from lorasweep.report.write import write_report

    folder = runs.find_sweep(options.sweep, subject="report")
    if options.out is not None:
        require_writable(options.out, option="--out")
    page, text = write_report(folder, options.out)
    if options.json:
        print(json.dumps({"html": str(page), "markdown": str(text)}, indent=1))
    else:
        print(f"report    {page}\nmarkdown  {text}")
    if options.open:
        webbrowser.open(page.as_uri())
    return 0
