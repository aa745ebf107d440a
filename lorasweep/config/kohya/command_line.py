"""The command line that starts a training of sd-scripts or musubi-tuner, as options; a script that holds one too."""

from __future__ import annotations

import re
import shlex
from typing import Any

_CONTINUED = re.compile(r"[ \t]*[\\^`][ \t]*\r?\n")  # in a shell, in cmd and in PowerShell
_START = re.compile(r"^(?!\s*(?:#|rem\b|::)).*?(\w*)train_network\.py[\"']?[ \t](.*)$", re.MULTILINE | re.IGNORECASE)
_ENDS = {"&&", "||", "|", ";", ">", ">>", "2>&1"}


def options(text: str) -> dict[str, Any] | None:
    """Read the first such command; values are text, several of one option a list, and without one it is true.

    Returns:
        None where there is none, or its quotes do not close.
    """
    if not (found := _START.search(_CONTINUED.sub(" ", text))):
        return None
    rest = found[2]
    try:
        words = shlex.split(rest, comments=True, posix="\\" not in rest)
    except ValueError:
        return None
    given: dict[str, list[str]] = {"sdxl": []} if found[1].lower() == "sdxl_" else {}
    for word in words:
        if word in _ENDS:
            break
        if word.startswith("--"):
            option, equals, value = word[2:].partition("=")
            given[option] = [value.strip("\"'")] if equals else []
        elif given:
            given[[*given][-1]].append(word.strip("\"'"))
    return {option: values[0] if len(values) == 1 else values or True for option, values in given.items()}
