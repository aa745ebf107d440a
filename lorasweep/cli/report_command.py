"""`lorasweep report`: a sweep's answer as one page, HTML and Markdown."""

from __future__ import annotations

import argparse
import json
import webbrowser

from lorasweep.core.paths import require_replaceable, require_writable
from lorasweep.core.run_folder import REPORT_FILE, REPORT_TEXT_FILE
from lorasweep.results import runs


def run(options: argparse.Namespace) -> int:
    """Write the pages, say where they are; returns the exit code."""
    from lorasweep.results.report.write import is_ours, write_report

    folder = runs.find_sweep(options.sweep, subject="report")
    if options.out is not None:
        require_writable(options.out, option="--out")
        for name in (REPORT_FILE, REPORT_TEXT_FILE):
            require_replaceable(options.out / name, is_ours, option="--out")
    page, text = write_report(folder, options.out)
    if options.json:
        print(json.dumps({"html": str(page), "markdown": str(text)}, indent=1))
    else:
        print(f"report    {page}\nmarkdown  {text}")
    if options.open:
        webbrowser.open(page.as_uri())
    return 0
