"""`lorasweep cache`: what is kept to be quicker the next time, and away with it."""

from __future__ import annotations

import argparse
import json

from lorasweep.api import cached
from lorasweep.core import paths
from lorasweep.core.console import text_console, text_table
from lorasweep.core.records import to_dict


def run_cache(options: argparse.Namespace) -> int:
    """Show it, or clear it; returns the exit code."""
    found = cached.clear_cache(*options.kinds) if options.clear else cached.cache(*options.kinds)
    files, mib = sum(each.files for each in found), sum(each.bytes for each in found) / 2**20
    if options.json:
        print(json.dumps({"cleared": options.clear, "kinds": [to_dict(each) for each in found]}, indent=1))
        return 0
    if options.clear:
        print(f"{files} files went, {mib:.1f} MiB; runs are in {paths.outputs()}, as they were")
        return 0
    rows = [[each.kind, each.what, each.files, f"{each.bytes / 2**20:.1f}"] for each in found]
    rows.append(["", "together", files, f"{mib:.1f}"])
    text_console().print(text_table(str(paths.cache()), texts=["kind", "what"], numbers=["files", "MiB"], rows=rows))
    words = " ".join(["lorasweep cache", *options.kinds, "--clear"])
    print(f"to remove it: {words}. It is made again when it is needed, and no run is in it")
    return 0
