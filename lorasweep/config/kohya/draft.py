"""The recipe while it is being translated: what the options became, what is left out, what makes no sense.

Knows the list of options, and nothing about what any of them means.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorasweep.config.kohya.options import HARMLESS, OFF, TRANSLATED, UNSUPPORTED, Option
from lorasweep.config.suggest import unknown
from lorasweep.core.errors import Problem
from lorasweep.core.printable import has_control_characters

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_MEND = "mend the TOML"
_NO_CHANGE = "changes nothing together with the other options that are given"
_NOT_GIVEN = "stands for not given, there and here"
# What stands between two arguments: `betas=0.9, 0.99 weight_decay=0.1` is two.
_NEXT_ARGUMENT = re.compile(r"[\s,]+(?=[A-Za-z_]\w*\s*=)")


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
    _arguments: dict[str, Any] = field(default_factory=dict)  # `network_args.conv_dim` -> as given

    def given(self, option: str) -> bool:
        """Whether the files say anything about it: empty text and, where it is written so, 0 do not."""
        value = self.options.get(option)
        if value is None or value in ("", [], {}):
            return False
        row = TRANSLATED.get(option)
        return not (row and row.zero_is_unset and str(value).strip() in ("0", "0.0"))

    def take(self, option: str) -> Any:
        """The option's value as its kind, sd-scripts' default when it is not given, None without one."""
        row = TRANSLATED[option]
        if not self.given(option):
            return row.default
        value = self._checked(option, self.options[option], row)
        return row.default if value is None else value

    def arguments(self, option: str) -> dict[str, Any]:
        """Arguments as data, from a list of `name=value`s, one text of them, or a table.

        Numbers, booleans and tuples are read as Python has them, true and false as people write them; commas
        and blanks between arguments and after a value are only that.
        """
        given = self.options.get(option) or []
        found: dict[str, Any] = {}
        if isinstance(given, Mapping):
            found = {str(name): _as_data(value) if isinstance(value, str) else value for name, value in given.items()}
            given = []
        for item in given if isinstance(given, list) else [given]:
            for text in _NEXT_ARGUMENT.split(str(item).strip(" ,\t\r\n")) if item != "" else ():
                name, equals, value = (part.strip() for part in text.partition("="))
                if not equals or not name:
                    self.problem(option, f"must be name=value each, got {text!r}")
                    continue
                if name in found and found[name] != _as_data(value):
                    self.differ(f"{option}.{name}", found[name], "is given twice: the last one counts, as there")
                found[name] = _as_data(value)
        self._arguments |= {f"{option}.{name}": value for name, value in found.items()}
        return found

    def argument(
        self,
        arguments: dict[str, Any],
        option: str,
        name: str,
        kind: type,
        *,
        low: float | None = None,
        high: float | None = None,
    ) -> Any:
        """Take one out of an option's arguments as `kind`; None when it is not there or makes no sense."""
        value = arguments.pop(name, None)
        if value is None or value == "":
            return None
        return self._checked(f"{option}.{name}", value, Option(kind, (), low=low, high=high))

    def put(self, key: str, value: Any, option: str, *, given: bool | None = None) -> None:
        """Decide a recipe key by an option; `given` says whether the files have it, for one inside a list."""
        self.lines[key] = Line(value, option, self.given(option) if given is None else given)

    def ignore(self, option: str, reason: str) -> None:
        """Leave out an option that, with the others as they are, changes nothing; not one already told."""
        if self.given(option) and option not in self._told_options():
            self.left_out.append(Note(option, self.options[option], reason))

    def leave(self, option: str, value: Any, reason: str) -> None:
        """Say that something given has no counterpart."""
        self.untranslated.append(Note(option, value, reason))

    def differ(self, option: str, value: Any, reason: str) -> None:
        """Say that the counterpart is not quite the same."""
        self.differs.append(Note(option, value, reason))

    def problem(self, option: str, message: str, hint: str = _MEND) -> None:
        """Say that a value makes no sense; once, however often it is looked at."""
        problem = Problem(option, message, hint)
        if problem not in self.problems:
            self.problems.append(problem)

    def judge_the_rest(self) -> None:
        """Sort every option of the files that nothing was said about: none is dropped in silence."""
        told, roots = self._told(), self._told_options()
        for option, value in (self._arguments | dict(self.options)).items():
            if option in told or option in roots:
                continue
            if option in self._arguments:
                self.left_out.append(Note(option, value, _NO_CHANGE if value else _NOT_GIVEN))
            elif option in HARMLESS:
                self.left_out.append(Note(option, value, HARMLESS[option]))
            elif option in UNSUPPORTED and not _is_off(option, value):
                self.leave(option, value, UNSUPPORTED[option])
            elif option in UNSUPPORTED:
                self.left_out.append(Note(option, value, "is off, as it always is here"))
            elif option in TRANSLATED and self.given(option):
                self.left_out.append(Note(option, value, _NO_CHANGE))
            elif option in TRANSLATED:
                self.left_out.append(Note(option, value, _NOT_GIVEN))
            else:
                reason = "not an option of sd-scripts' LoRA training that is known here"
                self.leave(option, value, unknown(reason, option, TRANSLATED))

    def _told(self) -> set[str]:
        """What lines, notes and problems speak of: `network_dim`, `network_args.conv_dim`."""
        lines = (line.option for line in self.lines.values() if line.given)
        notes = (note.option for note in (*self.untranslated, *self.differs, *self.left_out))
        return {*lines, *notes, *(problem.where for problem in self.problems)}

    def _told_options(self) -> set[str]:
        return {option.split(".")[0] for option in (*self._told(), *self._arguments)}

    def _checked(self, option: str, given: Any, row: Option) -> Any:
        """The value as the row's kind and in its range; None, with a problem, when it is not."""
        try:
            value = as_kind(given, row.kind)
        except (ValueError, TypeError, OverflowError):
            self.problem(option, f"must be {_WORDS[row.kind]}, got {given!r}")
            return None
        if row.kind is str and (has_control_characters(value) or re.search(r"[\t\n]", value)):
            # "D:\new\train" in double quotes: a line break and a tab
            hint = "in TOML a path with backslashes stands in single quotes: 'D:\\new\\train'"
            self.problem(option, f"must be text without control characters, got {value!r}", hint)
            return None
        for is_broken, rule in _bounds(value, row):
            if is_broken:
                self.problem(option, f"{rule}, got {given!r}")
                return None
        return value


def as_kind(value: Any, kind: type) -> Any:
    """Read a TOML value as a finite number, a boolean or text; numbers may be written as text.

    Raises:
        ValueError, TypeError, OverflowError: it is none.
    """
    if kind is bool:
        word = str(value).strip().lower()
        if word not in ("true", "false", "1", "0"):
            raise ValueError
        return word in ("true", "1")
    if kind is str:
        if not isinstance(value, str):
            raise ValueError
        return value
    if isinstance(value, bool):
        raise ValueError
    if kind is int and isinstance(value, int):
        return value
    number = float(value)
    if not math.isfinite(number) or (kind is int and number != int(number)):
        raise ValueError
    return kind(number)


def _bounds(value: Any, row: Option) -> Iterator[tuple[bool, str]]:
    if row.low is not None:
        yield value < row.low, f"must be >= {row.low:g}"
    if row.high is not None:
        yield value > row.high, f"must be <= {row.high:g}"


def _is_off(option: str, value: Any) -> bool:
    """Whether an option without a counterpart is switched off."""
    if isinstance(value, str):
        return value.strip().lower() in ("", "false", "none", "0", str(OFF.get(option, "")).lower())
    return not value or value == OFF.get(option)


def _as_data(text: str) -> Any:
    """An argument's value as Python writes it; else the text itself."""
    text = text.strip(" ,\t\r\n")
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
