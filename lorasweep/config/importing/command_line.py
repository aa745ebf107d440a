"""The command line that starts a training, as options; of a script that holds one too."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lorasweep.core.errors import ConfigError, Problem

_CONTINUED = re.compile(r"[ \t]*[\\^`][ \t]*(?:\r?\n|\Z)")  # in a shell, in cmd and in PowerShell
_START = r"^(?P<launcher>(?!\s*(?:#|rem\b|::)).*?)\b(?P<script>{script})\.py[\"']?(?P<options>[ \t].*)$"
# Up to what ends a command outside of quotes: an operator or a comment as a word, or `;` behind one.
_COMMAND = re.compile(r"""(?:"[^"]*"|'[^']*'|(?!\s(?:[&|;#]|\d?>)|;(?:\s|$))[^"'])*""")
_FIRST = "words before all options"
_LAUNCHERS = re.compile(r"--(num_processes|mixed_precision)[= ][\"']?(\w+)")  # options of accelerate
# Before a command, for it alone: `CUDA_VISIBLE_DEVICES=0 accelerate launch ...`.
_ENVIRONMENT = re.compile(r"""\s*(?:\w+=(?:"[^"]*"|'[^']*'|[^\s"']*)[ \t]+)+(?=\S)""")
_SET_IN_CMD = re.compile(r"\s*set\s+(\"?)(?P<name>\w+)=(?P<value>.*?)\1\s*$", re.IGNORECASE)
_SET = re.compile(
    r"\s*(?:export\s+|\$(?:env:)?)?(?P<name>\w+)\s*=\s*(?P<quote>[\"']?)(?P<value>.*?)(?P=quote)\s*(?:;.*|(?<=\s)#.*)?$",
    re.IGNORECASE,
)
_USED = re.compile(r"%(\w+)%|\$\{(?:env:)?(\w+)\}|\$(?:env:)?(\w+)", re.IGNORECASE)
_ASKED = re.compile(r"\$\([^()]* [^()]*\)")  # what a command says, as one word
_OR_ELSE = re.compile(r"\$\{(\w+):?-([^{}]*)\}")
_OUTPUTS = ("output_dir", "output_name", "logging_dir", "log_tracker_name", "wandb_run_name", "wandb_api_key")
_LISTS = ("(", "@(", "[")
_UNSET = re.compile(r"%~|%\w+%|%%\w|!\w+!|\$[\w{(@]|\{\w+\}|^@\w")  # of cmd, its loops, shells, notebooks, PowerShell


def read(
    path: Path, text: str, script: str, known: Collection[str]
) -> tuple[str, dict[str, Any], dict[str, str]] | None:
    """Read the first command that starts a script, with the variables that the text sets above it.

    `script` is a pattern of its name, without the ending; where there is none of its `known` options, prose names it.

    Returns:
        Which script it is; text by option, a list where it has several values, true where it has none; and
        accelerate's `num_processes` and `mixed_precision`. None where there is no command, or its quotes do not close.

    Raises:
        ConfigError: a value is of a variable that is not set.
    """
    start = re.compile(_START.format(script=script), re.IGNORECASE)
    variables = {"home": "~", "userprofile": "~"}
    for line in _CONTINUED.sub(" ", text).splitlines():
        line = _ASKED.sub("$(...)", line)
        line = _OR_ELSE.sub(lambda used: variables.get(used[1].lower()) or used[2], line)
        line = _USED.sub(lambda used: variables.get(next(filter(None, used.groups())).lower(), used[0]), line)
        command = start.match(_ENVIRONMENT.sub("", line, count=1)) if _ENVIRONMENT.match(line) else None
        if command is None and (found := _SET_IN_CMD.match(line) or _SET.match(line)):
            name, value = found["name"].lower(), found["value"]
            # One that is set again may be so in a branch; what a list grows to, or a command says, is not read.
            is_known = variables.get(name, value) == value and not (value.startswith(_LISTS) or "$(" in value)
            variables[name] = value if is_known else f"${name}"
        elif (found := command or start.match(line)) and (said := _read(found["options"], known)):
            if names := _unset(said):
                what = f"has variables that it does not set, or not to one value: {', '.join(names)}"
                problem = Problem(str(path), what, "write its value in its place")
                raise ConfigError(problem, subject="the trainer's config")
            return found["script"].lower(), said, dict(_LAUNCHERS.findall(found["launcher"]))
    return None


def _unset(options: Mapping[str, Any]) -> list[str]:
    """List words that name a variable, or an array, which the script does not set, but for where its files go."""
    matter = (value for option, value in options.items() if option not in _OUTPUTS or isinstance(value, list))
    words = (word for value in matter for word in (value if isinstance(value, list) else [value]))
    return [word for word in words if isinstance(word, str) and _UNSET.search(word)]


def _read(command: str, known: Collection[str]) -> dict[str, Any] | None:
    rest = _COMMAND.sub("", command, count=1)
    if rest.startswith(('"', "'")):  # which does not close
        return None
    lexer = shlex.shlex(command.removesuffix(rest), posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""  # which would end a line within a word
    if re.search(r"\\\w", command):  # a path of Windows, not an escape
        lexer.escape = ""
    try:
        words = list(lexer)
    except ValueError:
        return None
    given: dict[str, list[str]] = {_FIRST: []}
    for word in words:
        if word.startswith("--"):
            option, equals, value = word[2:].partition("=")
            option = _whole(option, known)
            given.pop(option, None)
            given[option] = [value] if equals else []
        else:
            given[[*given][-1]].append(word)
    first = given.pop(_FIRST)
    if given.keys().isdisjoint(known):  # prose that names the script
        return None
    said = {option: values[0] if len(values) == 1 else values or True for option, values in given.items()}
    return {_FIRST: first, **said} if first else said


def _whole(option: str, known: Collection[str]) -> str:
    """Return the option that its beginning stands for, where it is of one alone: argparse takes it so."""
    if option in known:
        return option
    found = [name for name in known if name.startswith(option) and "." not in name]
    return found[0] if len(found) == 1 else option
