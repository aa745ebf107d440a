"""The grammar of the command line, with help that teaches, from the table in `commands`. argparse only."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import lorasweep
from lorasweep.cli.commands import COMMANDS, DOLLHOUSE, EPILOG, Argument


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; the chosen one is in `.command`."""
    parser = argparse.ArgumentParser(
        prog="lorasweep",
        description="Declare a question about LoRA recipes, cook each, measure which one is overcooked.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lorasweep {lorasweep.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, more, arguments) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=more,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add(command, arguments)
        if name == "dollhouse":
            actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
            for action, (what, its_arguments) in DOLLHOUSE.items():
                _add(actions.add_parser(action, help=what), its_arguments)
    return parser


def _add(parser: argparse.ArgumentParser, arguments: Iterable[Argument]) -> None:
    groups: dict[str, argparse._MutuallyExclusiveGroup] = {}
    for names, how in arguments:
        options = {key: value for key, value in how.items() if key != "group"}
        if (group := how.get("group")) is None:
            parser.add_argument(*names, **options)
            continue
        if group not in groups:
            groups[group] = parser.add_mutually_exclusive_group()
        groups[group].add_argument(*names, **options)
