"""`lorasweep report`: a sweep's answer as one page, HTML and Markdown."""

from __future__ import annotations

import argparse
import json
import webbrowser

from lorasweep import api


def run(options: argparse.Namespace) -> int:
    """Write the pages, say where they are; returns the exit code."""
    page, text = api.report(options.sweep, options.out)
    if options.json:
        print(json.dumps({"html": str(page), "markdown": str(text)}, indent=1))
    else:
        print(f"report    {page}\nmarkdown  {text}")
    if options.open:
        webbrowser.open(page.as_uri())
    return 0
