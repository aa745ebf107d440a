"""Text from people's files on its way to a terminal, where control characters do things.

They move the cursor, colour what follows, rename the window. So they are refused where text is read, and made
visible where it is printed all the same.
"""

from __future__ import annotations

import re

# C0, DEL and C1, but for the tab and the line break that ordinary text has.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def has_control_characters(text: str) -> bool:
    """Whether a terminal would do something else than show this text."""
    return _CONTROL.search(text) is not None


def printable(text: str) -> str:
    """The text with control characters shown as `�`, and what cannot be encoded replaced."""
    return _CONTROL.sub("�", text).encode("utf-8", "replace").decode()
