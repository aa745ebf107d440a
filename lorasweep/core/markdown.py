r"""People's text inside Markdown, for GitHub's renderer and for Showdown, which MLflow uses.

Names, questions, notes and captions come from strangers' files: they are to be read, and to do nothing else.
The two renderers differ in what a backslash takes the meaning from: to Showdown `\<` still opens a tag. What
one of them would still act on is written as an HTML entity, which both show as the letter.
Knows nothing about what is written around the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lorasweep.core.printable import readable

# Both take the meaning from these by a backslash: Showdown's list and CommonMark's punctuation.
# Not from an underscore between letters, which means nothing: names stay as people know them.
_BY_BACKSLASH = re.compile(r"([\\`*\[\]#|~]|(?<![^\W_])_|_(?![^\W_]))")
# HTML, entities, mentions of GitHub's users and e-mail addresses, formulas.
_BY_ENTITY = re.compile(r"[<>&@$^]")
# What is made a link without asking, and what makes a list or a heading at the beginning of a paragraph.
_BARE_LINK = re.compile(r":(?=//)|(?<=www)\.", re.IGNORECASE)
_OPENING = re.compile(r"^(?:[-+=]|\d+[.)])")


def plain(text: str) -> str:
    """Return text as it is, in one line: nothing in it is taken as Markdown, HTML or a link."""
    safe = _BY_ENTITY.sub(_entity, _BY_BACKSLASH.sub(r"\\\1", readable(text).strip()))
    safe = _BARE_LINK.sub(_entity, safe)
    return _OPENING.sub(lambda opening: opening[0][:-1] + _entity(opening), safe)


def code(text: str) -> str:
    """Return text between backticks, more of them than it holds."""
    shown = readable(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if "`" in shown else f"`{shown}`"


def cell(markdown: str) -> str:
    """Return Markdown that stays inside its cell of a table."""
    return re.sub(r"(?<!\\)\|", r"\\|", markdown.replace("\n", " "))


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of cells that are Markdown already."""
    named = list(heads)
    lines = [named, ["---"] * len(named), *rows]
    return "\n".join("| " + " | ".join(cell(each) for each in line) + " |" for line in lines)


def cut(markdown: str, longest: int) -> str:
    """Keep as many whole lines as fit into so many characters: half a line could lose the end of its quotes."""
    if len(markdown) <= longest:
        return markdown
    return markdown[: longest - 1].rpartition("\n")[0].rstrip() + "\n…"


def _entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0][-1])};"
