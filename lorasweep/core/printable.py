"""Text from people's files on its way to a terminal or a page, where control characters do things.

They move the cursor, colour what follows, rename the window, turn text around. So they are refused where text
is read, and made visible where it is shown all the same.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

# C0, DEL and C1, but for the tab and the line break that ordinary text has.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Also what turns text around, and what breaks lines: Unicode's embeddings, overrides, isolates, separators.
_ACTS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_LONG = 200  # letters; the keys of a file may be of any length
_JOINERS = "\u200c\u200d"  # inside words of some scripts and inside emoji; they turn nothing around


def has_control_characters(text: str) -> bool:
    """Tell whether a terminal would do something else than show this text."""
    return _CONTROL.search(text) is not None


def visible(text: str) -> str:
    """Return the text with what acts on a terminal shown as `�`; lines and tabs stay."""
    return _ACTS.sub("�", text)


def readable(text: str) -> str:
    """Return one line of text: control characters and marks that turn text around become visible as `�`."""
    one_line = re.sub(r"\s+", " ", text)
    return "".join(letter if letter.isprintable() or letter in _JOINERS else "�" for letter in one_line)


def on_one_line(text: str) -> str:
    """Return a file's name on one line: what acts on a terminal is shown as `�`, a line break too."""
    return visible(text).translate({ord(letter): "�" for letter in "\n\t"})


def command(*words: str) -> str:
    """Write words as they are typed into this system's shell: on Windows in double quotes, which all of its take."""
    return " ".join(map(_for_windows, words)) if os.name == "nt" else shlex.join(words)


def _for_windows(word: str) -> str:
    """Write a word in quotes where cmd or PowerShell would part or obey it: at commas, brackets and `&` too."""
    import subprocess

    typed = subprocess.list2cmdline([word])
    if typed.startswith('"') or re.fullmatch(r"[\w.:=/\\~+-]+", typed):
        return typed
    backslashes = len(typed) - len(typed.rstrip("\\"))  # at the end they would take the quote's meaning
    return f'"{typed}{typed[len(typed) - backslashes :]}"'


def some(names: Sequence[str], most: int = 3) -> str:
    """Name up to so many, and how many more there are."""
    shown = [on_one_line(name if len(name) <= _LONG else f"{name[:_LONG]}…") for name in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
