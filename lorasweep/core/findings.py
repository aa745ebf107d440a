"""What a plan and an audit say about a dataset: sentences with a level, places and the command that mends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

Level = Literal["must", "should", "note"]
LEVELS: tuple[Level, ...] = ("must", "should", "note")


class Finding(str):
    """A warning, which is its own sentence: `plan` prints it, `audit` reads the attributes as well."""

    level: Level  # `must` spoils the training, `should` makes it worse, `note` is worth knowing
    places: tuple[str, ...]  # files or folders, as the person would look them up; empty: the dataset as a whole
    command: str  # what mends it, to copy into a shell; empty when nothing needs to be done
    tags: Mapping[str, str]  # that it is about, compared form -> `fused` or `absorbed`

    def __new__(
        cls,
        sentence: str,
        *,
        level: Level = "note",
        places: Sequence[str] = (),
        command: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> Finding:
        """Make a finding of a sentence."""
        made = super().__new__(cls, sentence)
        made.level, made.places, made.command = level, tuple(places), command
        made.tags = tags or {}
        return made


def with_commands(found: Sequence[Finding]) -> list[tuple[Finding, str]]:
    """Return each with the command to show below it: one that mends several is shown below the last of them only."""
    last = {each.command: number for number, each in enumerate(found)}
    return [(each, each.command if last[each.command] == number else "") for number, each in enumerate(found)]


def sorted_by_level(warnings: Iterable[str]) -> list[Finding]:
    """Sort a plan's warnings, the gravest first; a plain sentence is a note."""
    found = [each if isinstance(each, Finding) else Finding(each) for each in warnings]
    return sorted(found, key=lambda each: LEVELS.index(each.level))
