"""`lorasweep doctor`: is this machine fit to cook on?"""

from __future__ import annotations

import argparse
import json
from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorasweep.api.checks import Check
from lorasweep.api.checks.doctor import doctor
from lorasweep.core.console import text_console
from lorasweep.core.records import to_dict

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def run_doctor(options: argparse.Namespace) -> int:
    """Examine, show every check with its next step as it comes; 1 when something is broken."""
    console = text_console()
    checks = []
    for check in doctor(*options.overrides, cook=options.cook):
        checks.append(check)
        if not options.json:
            _show(check, console)
    counts = Counter(check.state.value for check in checks)
    broken = counts["fail"] > 0
    if options.json:
        print(json.dumps({"ok": not broken, "checks": [to_dict(check) for check in checks]}, indent=1))
    else:
        console.print(", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state]))
    return 1 if broken else 0


def _show(check: Check, console: Console) -> None:
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(width=4)
    row.add_column(width=12)
    row.add_column(overflow="fold")
    row.add_row(Text(check.state.value, style=STYLES[check.state.value]), check.name, check.found)
    console.print(row)
    if check.hint:  # a command in it is copied whole where the terminal breaks the line
        console.print(Text(f"{'':20}→ {check.hint}", style="dim"), soft_wrap=True)
