"""The recipe while it is being translated: which options were looked at, what they became, what is left out.

Knows the list of options, and nothing about what any of them means.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lorasweep.errors import Problem
from lorasweep.import_kohya.options import DEFAULTS, HARMLESS, OFF, TRANSLATED, UNSUPPORTED

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Line:
    """One key of the recipe.

    Attributes:
        value: plain data.
        option: the kohya option that it comes from.
        given: whether the files have that option; else the value is sd-scripts' default.
    """

    value: Any
    option: str
    given: bool


@dataclass(frozen=True)
class Note:
    """Something that a person should know about one option.

    Attributes:
        option: kohya's name, `network_args.rank_dropout` for one inside a list.
        value: as given; None when it is about a default.
        reason: in a sentence.
    """

    option: str
    value: Any
    reason: str


@dataclass
class Draft:
    """A recipe being translated from options.

    Attributes:
        options: what the files say, one flat dict.
        lines: recipe key -> value and origin, in the order of translation.
        untranslated: given, matters, and has no counterpart.
        differs: translated, but the counterpart is not quite the same.
        left_out: given, and changes nothing that is learned.
        problems: values that make no sense.
    """

    options: Mapping[str, Any]
    lines: dict[str, Line] = field(default_factory=dict)
    untranslated: list[Note] = field(default_factory=list)
    differs: list[Note] = field(default_factory=list)
    left_out: list[Note] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    _asked: set[str] = field(default_factory=set)

    def given(self, option: str) -> bool:
        """Whether the files say anything about it."""
        return self.options.get(option) is not None

    def see(self, option: str) -> None:
        """Note that an option was looked at."""
        assert option in TRANSLATED, option
        self._asked.add(option)

    def take(self, option: str, kind: type) -> Any:
        """The option's value as `kind`, sd-scripts' default when it is not given, None without one."""
        self.see(option)
        if not self.given(option):
            return DEFAULTS.get(option)
        try:
            return as_kind(self.options[option], kind)
        except ValueError:
            self.problems.append(
                Problem(option, f"must be {_WORDS[kind]}, got {self.options[option]!r}", "mend the TOML")
            )
            return DEFAULTS.get(option)

    def arguments(self, option: str) -> dict[str, Any]:
        """A list of `name=value`s as data: numbers, booleans and tuples are read as Python has them."""
        self.see(option)
        value = self.options.get(option) or []
        items = value.split() if isinstance(value, str) else value
        found: dict[str, Any] = {}
        for item in items if isinstance(items, Sequence) else [items]:
            name, equals, text = str(item).partition("=")
            if not equals:
                self.problems.append(
                    Problem(option, f"must be name=value each, got {item!r}", "mend the TOML")
                )
                continue
            try:
                found[name.strip()] = ast.literal_eval(text.strip())
            except (ValueError, SyntaxError):
                found[name.strip()] = text.strip()
        return found

    def put(self, key: str, value: Any, option: str, *, given: bool | None = None) -> None:
        """Decide a recipe key by an option; `given` says whether the files have it, for one inside a list."""
        self.lines[key] = Line(value, option, self.given(option) if given is None else given)

    def ignore(self, option: str, reason: str) -> None:
        """Leave out an option that, with the others as they are, changes nothing; not one already read."""
        if option in self._asked:
            return
        self.see(option)
        if self.given(option):
            self.left_out.append(Note(option, self.options[option], reason))

    def leave(self, option: str, value: Any, reason: str) -> None:
        """Say that something given has no counterpart."""
        self.untranslated.append(Note(option, value, reason))

    def differ(self, option: str, value: Any, reason: str) -> None:
        """Say that the counterpart is not quite the same."""
        self.differs.append(Note(option, value, reason))

    def judge_the_rest(self) -> None:
        """Sort every given option that nobody looked at."""
        for option, value in self.options.items():
            if option in self._asked or value is None:
                continue
            if option in HARMLESS:
                self.left_out.append(Note(option, value, HARMLESS[option]))
            elif option in UNSUPPORTED:
                if value and value != OFF.get(option):
                    self.leave(option, value, UNSUPPORTED[option])
            elif option in TRANSLATED:
                self.leave(option, value, "not read together with the other options that are given")
            else:
                self.leave(option, value, "not an option of sd-scripts' LoRA training that is known here")


def as_kind(value: Any, kind: type) -> Any:
    """Read a TOML value as a number, a boolean or text, as argparse would have.

    Raises:
        ValueError: it is none.
    """
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "false", "1", "0"):
            return str(value).lower() in ("true", "1")
        raise ValueError
    if kind is str:
        if isinstance(value, Mapping | list):
            raise ValueError
        return str(value)
    if isinstance(value, bool | Mapping | list):
        raise ValueError
    number = float(value)
    if kind is float:
        return number
    if number != int(number):
        raise ValueError
    return int(number)
