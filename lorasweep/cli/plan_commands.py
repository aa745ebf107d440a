"""`lorasweep plan`: what would run, without torch."""

from __future__ import annotations

import argparse
import json
import sys

from lorasweep.api import training
from lorasweep.cli.plan_view import tables
from lorasweep.core import once
from lorasweep.core.paths import require_picture


@once.shared()
def run_plan(options: argparse.Namespace) -> int:
    """Print the plan of a sweep, or of one recipe; returns the exit code."""
    require_picture(options.png, option="--png")
    planned = training.plan(*options.overrides)
    if options.json:
        print(json.dumps(planned.captions_json() if options.captions else planned.to_json(), indent=1))
    else:
        (tables.print_captions if options.captions else tables.print_plan)(planned)
    if options.png:
        from lorasweep.cli.plan_view import picture

        count = picture.draw(planned, options.png)
        print(f"learning rates of {count} schedule{'s' if count > 1 else ''}  {options.png}", file=sys.stderr)
    return 0
