"""Write what was imported: a recipe file with the origin of every key, and the same as JSON-able data."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping
from typing import Any

from lorasweep.config.importing.draft import Line
from lorasweep.config.importing.finish import Imported
from lorasweep.config.override import parse
from lorasweep.config.places import GROUPS
from lorasweep.config.tree import compose_tree, look_up
from lorasweep.core.printable import readable

_WIDTH = 108
_TITLES = {
    "untranslated": "Could not be translated",
    "differs": "Translated, but not quite the same",
    "left_out": "Left out, since they change nothing that is learned",
}


def recipe_text(imported: Imported, *, source: str) -> str:
    """The recipe file: comments on top list what did not come along, every key says where it comes from.

    Args:
        imported: what the importer returned.
        source: the command that made it.
    """
    lines = [f"# Made by: {source}"]
    for name, title in _TITLES.items():
        notes = getattr(imported, name)
        lines += ["#", f"# {title}:"] if notes else []
        for note in notes:
            given = "" if note.value is None else f" = {_yaml(note.value)}"
            lines += _wrapped(readable(f"{note.option}{given}: {note.reason}"))
    lines += ["", "recipe:"]
    differing = _differing_defaults(imported)
    for key, line in imported.lines.items():
        origin = line.option if line.given else f"{line.option} is not given: {imported.trainer}'s default"
        if key in differing:
            origin += f" (lorasweep's: {_yaml(differing[key])})"
        lines.append(f"  {key}: {_yaml(line.value)}  # {origin}")
    return "\n".join(lines) + "\n"


def imported_json(imported: Imported) -> dict[str, Any]:
    """The same as data: `recipe`, `untranslated`, `differs`, `left_out`, `defaults`, `to_give`, `links`."""
    notes = {
        name: [
            {"option": note.option, "value": _plain(note.value), "reason": note.reason}
            for note in getattr(imported, name)
        ]
        for name in _TITLES
    }
    defaults = [
        {"key": key, "option": line.option, imported.trainer: line.value, "lorasweep": own}
        for key, own in _differing_defaults(imported).items()
        for line in [imported.lines[key]]
    ]
    return {
        "recipe": {key: line.value for key, line in imported.lines.items()},
        **notes,
        "defaults": defaults,
        "to_give": list(imported.to_give),
        "links": [{"name": link.name, "target": str(link.target)} for link in imported.links],
    }


def _differing_defaults(imported: Imported) -> dict[str, Any]:
    """What lorasweep itself would take, with the same files picked, where the trainer's default is another."""
    picks = [text for text in imported.overrides() if text.partition("=")[0] in GROUPS]
    tree, _ = compose_tree(parse(picks)[0])

    def differs(key: str, line: Line) -> bool:
        return not line.given and key not in GROUPS and look_up(tree.values, key) != line.value

    return {key: look_up(tree.values, key) for key, line in imported.lines.items() if differs(key, line)}


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


def _wrapped(text: str) -> list[str]:
    """A comment in lines; a long word stays whole."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="#   ",
        subsequent_indent="#     ",
        break_long_words=False,
        break_on_hyphens=False,
    )
