"""HTML and SVG that cannot be broken out of: every text is escaped where it is put in.

    tag("p", "utility < ", tag("b", name), class_="note")  ->  Markup

Names, notes, captions and reasons come from people's files, so plain text is always taken as text; only what
`tag` itself made is taken as markup. Knows nothing about reports.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from lorasweep.printable import readable

_VOID = {"img", "meta", "br", "wbr", "line", "rect", "circle", "path", "polygon", "polyline", "use"}


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | int | None | Iterable["Child"]


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """Make one element.

    Args:
        name: of the element.
        children: markup as it is, anything else as text; None is nothing, iterables are flattened.
        attributes: `class_` is `class`, `data_x` is `data-x`; None and False leave one out, True is bare.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    inner = "".join(_flat(children))
    if name in _VOID and not inner:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{inner}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Put markup and text side by side."""
    return Markup("".join(_flat(children)))


def breakable(name: str) -> list[Child]:
    """A name that a narrow column breaks after an underscore, rather than anywhere."""
    first, *rest = name.split("_")
    return [first, [["_", tag("wbr"), part] for part in rest]]


def _flat(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, str | int):
            yield _escaped(str(child))
        else:
            yield from _flat(child)


def _escaped(text: str) -> str:
    return html.escape(readable(text), quote=True)


def _attribute(key: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-") if key != "viewBox" else key
    if value is True:
        return f" {name}"
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return f' {name}="{_escaped(text)}"'
