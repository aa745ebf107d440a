"""rich's console, for text from people's files: nothing in it is markup, an emoji's name or a command.

Takes what rich renders. Knows nothing about what is shown.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.containers import Lines
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from lorasweep.core.printable import visible
from lorasweep.core.streams import SafeStream

_WORD = re.compile(r"\S+")
_PART = re.compile(r"(?<=_)(?=[^_])|(?<=-)(?=[^-\d])")  # of a name; 1e-4 is one


class _Styled:
    """The stream below a `SafeStream`, for rich, whose own control characters are meant."""

    def __init__(self, stream: SafeStream) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._stream.write_styled(text)


class _Text(Text):
    def wrap(self, console: Console, width: int, **options: Any) -> Lines:
        """Break into lines; where words may be folded, a name behind its `_` and `-` if it can be."""
        words = _WORD.finditer(self.plain) if options["overflow"] == "fold" and not options["no_wrap"] else ()
        breaks = [word.start() + at for word in words for at in _breaks(word[0], width)]
        broken = Text("\n").join(self.divide(breaks)) if breaks else self
        return Text.wrap(broken, console, width, **options)


def _breaks(word: str, width: int) -> Iterator[int]:
    """Return where to break a word that is longer than a line, with as much on every line as fits."""
    line = at = 0
    for part in _PART.split(word) if cell_len(word) > width else ():
        if line and line + cell_len(part) > width:
            yield at
            line = 0
        line, at = (line + cell_len(part)) % max(1, width), at + len(part)


class _TextConsole(Console):
    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text, with control characters made visible before its width is taken."""
        made = super().render_str(visible(text), **options)
        return _Text(made.plain, made.style, justify=made.justify, overflow=made.overflow, spans=made.spans)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, with control characters made visible but for rich's own."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def text_console(file: IO[str] | None = None, *, stderr: bool = False, **options: Any) -> Console:
    """Make a console on standard output, standard error or a file; `options` are rich's."""
    stream: Any = file or (sys.stderr if stderr else sys.stdout)
    return _TextConsole(
        file=_Styled(stream) if isinstance(stream, SafeStream) else file,  # type: ignore[arg-type]
        stderr=stderr,
        markup=False,
        emoji=False,
        **options,
    )


def text_table(
    title: str,
    *,
    texts: Sequence[str],
    numbers: Sequence[str] = (),
    rows: Iterable[Iterable[object]] = (),
    caption: str | None = None,
) -> Table:
    """Make a table of columns of text, which are folded where they are too long, and then of numbers."""
    table = Table(title=title, caption=caption)
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*map(str, row))
    return table
