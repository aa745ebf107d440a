"""`lorasweep doctor`: is this machine fit to cook on?"""

from __future__ import annotations

import argparse
import json
from collections import Counter

from lorasweep.cli.doctor.record import Check, State
from lorasweep.core.records import to_dict

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def run(options: argparse.Namespace) -> int:
    """Examine, show every check with its next step; 1 when something is broken."""
    from lorasweep.cli.doctor import examine

    checks = list(examine(with_cook=options.cook)) if options.json else _shown(options.cook)
    broken = any(check.state is State.FAIL for check in checks)
    if options.json:
        print(json.dumps({"ok": not broken, "checks": [to_dict(check) for check in checks]}, indent=1))
    return 1 if broken else 0


def _shown(with_cook: bool) -> list[Check]:
    """Print the checks as they come: the last one takes a while."""
    from rich.table import Table
    from rich.text import Text

    from lorasweep.cli.doctor import examine
    from lorasweep.core.console import text_console

    console = text_console()
    checks: list[Check] = []
    for check in examine(with_cook=with_cook):
        checks.append(check)
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_column(width=4)
        row.add_column(width=12)
        row.add_column(overflow="fold")
        row.add_row(Text(check.state.value, style=STYLES[check.state.value]), check.name, check.found)
        if check.hint:
            row.add_row("", "", Text(f"→ {check.hint}", style="dim"))
        console.print(row)
    counts = Counter(check.state.value for check in checks)
    console.print(", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state]))
    return checks
