"""Write what was imported: a recipe file with the origin of every key, and the same as JSON-able data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lorasweep.config.kohya.draft import Line, Note
from lorasweep.config.kohya.translate import Imported
from lorasweep.config.override import parse
from lorasweep.config.places import GROUPS
from lorasweep.config.tree import compose_tree
from lorasweep.core.printable import readable

_WIDTH = 108


def recipe_text(imported: Imported, *, source: str) -> str:
    """The recipe file: comments on top list what did not come along, every key says where it comes from.

    Args:
        imported: what `import_kohya` returned.
        source: the command that made it.
    """
    lines = [f"# Made by: {source}"]
    for title, notes in _sections(imported):
        lines += ["#", *_wrapped(f"{title}:", "# ")]
        for note in notes:
            lines += _wrapped(readable(f"{_named(note)}: {note.reason}"), "#   ")
    lines += ["", "recipe:"]
    defaults = default_values(imported)
    for key, line in imported.lines.items():
        lines.append(f"  {key}: {_yaml(line.value)}  # {_origin(key, line, defaults)}".rstrip())
    return "\n".join(lines) + "\n"


def imported_json(imported: Imported) -> dict[str, Any]:
    """The same as data: `recipe`, `untranslated`, `differs`, `left_out`, `defaults`, `to_give`, `links`."""
    defaults = default_values(imported)
    return {
        "recipe": {key: line.value for key, line in imported.lines.items()},
        "untranslated": _rows(imported.untranslated),
        "differs": _rows(imported.differs),
        "left_out": _rows(imported.left_out),
        "defaults": [
            {"key": key, "option": line.option, "kohya": line.value, "lorasweep": defaults[key]}
            for key, line in imported.lines.items()
            if _is_a_default_of_theirs(key, line, defaults)
        ],
        "to_give": list(imported.to_give),
        "links": [{"name": link.name, "target": str(link.target)} for link in imported.links],
    }


def default_values(imported: Imported) -> dict[str, Any]:
    """What lorasweep itself would take for every key, with the same files picked."""
    picks = [text for text in imported.overrides() if text.partition("=")[0] in GROUPS]
    tree, _ = compose_tree(parse(picks)[0])
    return {key: _look_up(tree.values, key) for key in imported.lines if key not in GROUPS}


def _look_up(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _is_a_default_of_theirs(key: str, line: Line, defaults: dict[str, Any]) -> bool:
    return not line.given and key in defaults and defaults[key] != line.value


def _origin(key: str, line: Line, defaults: dict[str, Any]) -> str:
    if line.given:
        return line.option
    if _is_a_default_of_theirs(key, line, defaults):
        return f"{line.option} is not given: kohya's default (lorasweep's: {_yaml(defaults[key])})"
    return f"{line.option} is not given: kohya's default"


def _sections(imported: Imported) -> Iterator[tuple[str, tuple[Note, ...]]]:
    if imported.untranslated:
        yield "Could not be translated", imported.untranslated
    if imported.differs:
        yield "Translated, but not quite the same", imported.differs
    if imported.left_out:
        yield "Left out, since they change nothing that is learned", imported.left_out


def _named(note: Note) -> str:
    return note.option if note.value is None else f"{note.option} = {_yaml(note.value)}"


def _rows(notes: Iterable[Note]) -> list[dict[str, Any]]:
    return [{"option": note.option, "value": _plain(note.value), "reason": note.reason} for note in notes]


def _plain(value: Any) -> Any:
    """What JSON has: a date, nan and inf are written as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    is_json = value is None or isinstance(value, bool | int | str)
    return value if is_json or (isinstance(value, float) and math.isfinite(value)) else str(value)


def _yaml(value: Any) -> str:
    """JSON is YAML; numbers like 1e-06 are read as numbers by the reader of recipe files."""
    return json.dumps(_plain(value), ensure_ascii=False)


def _wrapped(text: str, prefix: str) -> list[str]:
    """Wrap a comment; a long word stays whole."""
    lines, current = [], prefix
    for word in text.split():
        if len(current) + len(word) > _WIDTH and current != prefix:
            lines.append(current.rstrip())
            current = f"{prefix}  "
        current += f"{word} "
    return [*lines, current.rstrip()]
