"""Standard streams that take whatever people's files hold, and that outlive their reader.

    make_safe()      first thing of the command line: `sys.stdout` and `sys.stderr` become `SafeStream`s
    can_show()       whether a text that is more than words, such as a file, comes out whole
    unwritten()      what of the output was lost, for the exit code

Text printed on them does nothing to a terminal: control characters are made visible. A console that lacks a
character shows a stand-in. A reader that goes away (`| head`, a closed terminal) costs its output and nothing
else: what was begun is finished. Knows nothing about what is printed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Any, TextIO

from lorasweep.core.printable import visible

_READER_GONE = {errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO}  # EIO: of a terminal that was closed


class SafeStream:
    """A text stream around another one; anything but writing is the other's."""

    def __init__(self, stream: TextIO) -> None:
        """Wrap a stream; characters that its encoding lacks become `?` from now on."""
        self._stream = stream
        self._is_open = True
        self.error: OSError | None = None  # why output was lost, unless its reader left
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, with control characters made visible; never fails."""
        return self.write_styled(visible(text))

    def writelines(self, lines: list[str]) -> None:
        """Write several texts, as `write`."""
        for line in lines:
            self.write(line)

    def write_styled(self, text: str) -> int:
        """Write text whose control characters are meant, such as colours; never fails."""
        if self._is_open:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written; never fails."""
        if self._is_open:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def _lose(self, error: OSError | ValueError) -> None:
        """Write to nowhere from now on; a ValueError is a stream that somebody closed."""
        self._is_open = False
        if isinstance(error, OSError) and error.errno not in _READER_GONE:
            self.error = error
        # What is left in buffers, and what libraries write past us, must find an open end.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def make_safe() -> None:
    """Make standard output and standard error safe to print on, if they are not."""
    _open_descriptors()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before we were started
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        if not isinstance(stream, SafeStream):
            setattr(sys, name, SafeStream(stream))


def can_show(text: str) -> bool:
    """Tell whether standard output takes a text as it is, without stand-ins."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return visible(text) == text and text.encode(encoding, "replace").decode(encoding, "replace") == text


def unwritten() -> list[str]:
    """Flush both streams; returns what of the output could not be written, and why."""
    found = []
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        if isinstance(stream, SafeStream) and stream.error is not None:
            found.append(f"output cannot be written: {stream.error.strerror}")
    return found


def _open_descriptors() -> None:
    """Open what of 0, 1 and 2 is closed: the next file would get the number, and prints would go into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the least free number
