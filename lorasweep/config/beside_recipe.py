"""Components that are chosen as a recipe's are, but are no part of one: a tagger."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lorasweep.config import places
from lorasweep.config.components import bind_component
from lorasweep.config.override import parse, repeats, unsafe
from lorasweep.core.errors import Problem
from lorasweep.core.records import Component


def take_component(group: str, words: Sequence[str]) -> tuple[Component | None, list[str], list[Problem]]:
    """Take a component that is no part of a recipe out of what was typed: `tagger=wd tagger.path=...`.

    Returns:
        The component, None without one; the words that are left; and what is wrong with those that were taken.
    """
    own = [word for word in words if re.split("[.=]", word.lstrip("+~"))[0] == group]
    left = [word for word in words if word not in own]
    overrides, problems = parse(own)
    problems += repeats(own)
    data: dict[str, Any] = {}
    for override in sorted(overrides, key=lambda each: each.key != group):
        if override.key == group:
            data |= places.read_choice(group, str(override.value)) or {"name": override.value}
        else:
            data[override.key.removeprefix(f"{group}.")] = override.value
    problems += unsafe(group, data)
    component = bind_component(group, data, problems=problems) if own and not problems else None
    return component, left, problems
