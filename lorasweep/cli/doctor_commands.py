"""`lorasweep doctor`: is this machine fit to cook on?"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorasweep import config
from lorasweep.cli.doctor import Check, State, fail, machine, ok, software
from lorasweep.core import registry
from lorasweep.core.console import text_console
from lorasweep.core.errors import ConfigError, Problem
from lorasweep.core.records import to_dict

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
# In an order in which the first broken one explains the later ones; the last takes the longest.
CHECKS: tuple[Callable[[], Check], ...] = (
    software.python,
    software.libraries,
    software.torch,
    software.extras,
    software.plugins,
    machine.memory,
    machine.disk,
    machine.folders,
    machine.mlflow_store,
    machine.ui_port,
    software.dollhouse,
    machine.cook,
)


def run_doctor(options: argparse.Namespace) -> int:
    """Examine, show every check with its next step as it comes; 1 when something is broken."""
    console = text_console()
    checks = []
    elsewhere = _ask_machines(options.overrides)
    for check in elsewhere or examine(with_cook=options.cook):
        checks.append(check)
        if not options.json:
            _show(check, console)
    broken = any(check.state is State.FAIL for check in checks)
    if options.json:
        print(json.dumps({"ok": not broken, "checks": [to_dict(check) for check in checks]}, indent=1))
    else:
        counts = Counter(check.state.value for check in checks)
        console.print(", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state]))
    return 1 if broken else 0


def examine(*, with_cook: bool = True) -> Iterator[Check]:
    """Look at everything, perhaps without cooking a recipe; results come as they are known."""
    for check in CHECKS:
        if check is machine.cook and not with_cook:
            continue
        try:
            yield check()
        except Exception as error:  # a check that breaks is a finding, and the others still matter
            told = " ".join(str(error).split())[:200]
            yield fail(check.__name__.replace("_", " "), f"{type(error).__name__}: {told}", "tell us about it")


def _show(check: Check, console: Console) -> None:
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(width=4)
    row.add_column(width=12)
    row.add_column(overflow="fold")
    row.add_row(Text(check.state.value, style=STYLES[check.state.value]), check.name, check.found)
    if check.hint:
        row.add_row("", "", Text(f"→ {check.hint}", style="dim"))
    console.print(row)


def _ask_machines(overrides: Sequence[str]) -> list[Check]:
    """Ask each of them; none where workers live on this machine. Raises ConfigError where no launcher is given."""
    if not overrides:
        return []
    other = [word for word in overrides if word.partition("=")[0].partition(".")[0] != "launcher"]
    if other:
        problems = [Problem(word, "says nothing about a launcher", "launcher=ssh launcher.KEY=VALUE") for word in other]
        raise ConfigError(problems, subject="doctor")
    launcher = config.compose_recipe(overrides).launcher
    ask = getattr(registry.load("launcher", launcher.name), "look", None)
    if ask is None:
        return []
    return [
        fail(each.node, each.problem, each.hint) if each.problem else ok(each.node, each.told) for each in ask(launcher)
    ]
