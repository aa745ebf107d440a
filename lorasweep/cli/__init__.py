"""The command line: parse, dispatch, and turn every failure into an exit code and words.

    0 done    2 the input is wrong, nothing was started    1 anything else    130 interrupted

Importing this module costs nothing: each command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import errno
import functools
import importlib
import os
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import lorasweep
from lorasweep.cli.commands import ALIASES, COMMANDS, DOLLHOUSE, EPILOG, Argument
from lorasweep.core import streams
from lorasweep.core.errors import ON_COMMAND_LINE, InputError, LorasweepError, Problem
from lorasweep.core.printable import command, has_control_characters, visible

# Options that make Hydra answer (`python -m lorasweep -m ...`): those of `config/hydra_app.py`.
HYDRA_FLAGS = ("-m", "--multirun", "-c", "--cfg", "-i", "--info", "--hydra-help", "-sc", "--shell-completion")
# Modules of several commands; each other command has one by its own name.
_SHARED = {
    "cook": ("train", "fork", "sweep", "judge", "calibrate"),
    "show": ("status", "report", "rate", "export", "sync", "ui"),
    "dataset": ("audit", "caption", "dollhouse"),
}
EXIT_OK, EXIT_FAILED, EXIT_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130
# Errors that say enough by themselves: no room, no right, no folder.
_OF_THE_DISK = {
    getattr(errno, name, None) for name in "ENOSPC EDQUOT EFBIG EROFS EACCES EPERM ENOTDIR EISDIR EEXIST".split()
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command of these arguments (None: the process's own); returns the exit code."""
    streams.make_safe()
    code = _run(list(sys.argv[1:] if argv is None else argv))
    if unwritten := streams.unwritten():
        print(*unwritten, sep="\n", file=sys.stderr)
        return code or EXIT_FAILED
    return code


def exit_code(run: Callable[[], int]) -> int:
    """Run, and turn what goes wrong into words and an exit code."""
    before = ON_COMMAND_LINE.set(True)
    try:
        _require_folder()
        return int(run())
    except InputError as error:
        _complain(str(error))
        return EXIT_INPUT
    except LorasweepError as error:
        _complain(f"{type(error).__name__}: {error}")
        return EXIT_FAILED
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            problem = Problem(str(error.filename), "is longer than the file system takes", "give a shorter name")
            _complain(str(InputError(problem, subject="a file's name")))
            return EXIT_INPUT
        if error.errno not in _OF_THE_DISK:
            raise
        _complain(f"{error.filename or 'a file'} cannot be written or read: {error.strerror}")
        return EXIT_FAILED
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        ON_COMMAND_LINE.reset(before)


def _require_folder() -> None:
    """Raise InputError where the folder in which a shell stands is gone: Python and torch's libraries stumble there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        problem = Problem(".", "the folder where you type was removed, or made anew", 'go to one: cd ~, or cd "$PWD"')
        raise InputError(problem, subject="the command line") from None


def _run(words: list[str]) -> int:
    _find_only_our_hydra_plugin()
    if not words:
        build_parser().print_help(sys.stderr)
        return EXIT_INPUT
    words[0] = ALIASES.get(words[0], words[0])
    if strange := [word for word in words if has_control_characters(word)]:
        run = functools.partial(_refuse_control_characters, strange)
    elif _is_hydras(words):
        run = functools.partial(_module("lorasweep.config.hydra_app").run_app, words, commands=tuple(sorted(COMMANDS)))
    elif not words[0].startswith("-") and words[0] not in COMMANDS:
        run = functools.partial(_no_such_command, words[0])
    else:
        options = _parse(words)
        module = next((module for module, names in _SHARED.items() if options.command in names), options.command)
        commands = _module(f"lorasweep.cli.{module}_commands")
        run = functools.partial(getattr(commands, f"run_{options.command}"), options)
    return exit_code(run)


def _complain(text: str) -> None:
    """Print an error, which may quote anything that was given: a password in an address too."""
    print(_module("lorasweep.results.tracking.address").masked(text), file=sys.stderr)


def _parse(words: list[str]) -> argparse.Namespace:
    """Parse, with overrides anywhere: argparse alone takes none after an option (`plan x --json seed=1`)."""
    parser = build_parser()
    options, rest = parser.parse_known_args(words)
    if dashed := [word for word in rest if re.match(r"--?\w+\.\w", word)]:
        parser.error(f"{dashed[0]}: keys are typed without dashes, as KEY=VALUE: {dashed[0].lstrip('-')}")
    for word in (word for word in rest if word.startswith("--")):
        if theirs := _module("lorasweep.config.suggest").of_other_trainers(word[2:].partition("=")[0]):
            parser.error(f"{word}: {theirs}; keys are typed without dashes, as KEY=VALUE")
    if any(word.startswith("-") or "=" not in word for word in rest) or not hasattr(options, "overrides"):
        parser.parse_args(words)  # says what is wrong and exits, unless there is nothing wrong
    else:
        options.overrides = [*options.overrides, *rest]
    return options


def _find_only_our_hydra_plugin() -> None:
    """Keep Hydra from importing another program's `hydra_plugins/` that lies where the command is given."""
    ours = types.ModuleType("hydra_plugins")
    ours.__path__ = [str(Path(lorasweep.__file__).resolve().parent.parent / "hydra_plugins")]
    sys.modules.setdefault("hydra_plugins", ours)


def _refuse_control_characters(words: Sequence[str]) -> int:
    """Raise InputError: which words hold what nobody types, and where it comes from."""
    crlf = "the script that calls this has Windows (CRLF) line ends: save it with LF, e.g. by dos2unix"
    message = "must be text without control characters"
    problems = [
        Problem(visible(word), f"{message}, got {word!r}", crlf if "\r" in word else "take them out") for word in words
    ]
    raise InputError(problems, subject="the command line")


def _no_such_command(word: str) -> int:
    suggest = _module("lorasweep.config.suggest")
    advice = suggest.folder_advice(word)
    if "=" in word or advice:
        advice = f"to cook a recipe: {command('lorasweep', 'train', word if '=' in word else f'dataset.path={word}')}"
    message = suggest.unknown("no such command", word, sorted(COMMANDS))
    hint = advice or suggest.file_advice(word) or f"commands: {', '.join(sorted(COMMANDS))}"
    raise InputError(Problem(word, message, hint), subject="the command line")


def _is_hydras(words: list[str]) -> bool:
    """Tell whether somebody uses lorasweep as the Hydra app that it also is."""
    return (not words or words[0] not in COMMANDS or words[0] == "train") and any(
        word.split("=")[0] in HYDRA_FLAGS for word in words
    )


def _module(name: str) -> Any:
    return importlib.import_module(name)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps lines and columns of what is said below the options where there is room, and folds them where not."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(part for line in text.splitlines() for part in _folded(line, width + 2)) + "\n"


def _folded(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    if not line.startswith("  "):
        return textwrap.wrap(line, width)
    head, *cells = re.split(" {2,}", line[2:])  # an example and what it does, or a row of a table
    told = textwrap.wrap(" | ".join(cells), width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return [f"  {head}", *told] if head else told


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every command; the chosen one is in `.command`."""
    parser = argparse.ArgumentParser(
        prog="lorasweep",
        description="Declare a question about LoRA recipes, cook each, measure which one is overcooked.",
        epilog=EPILOG,
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"lorasweep {lorasweep.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, more, arguments) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=more,
            formatter_class=_Help,
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
