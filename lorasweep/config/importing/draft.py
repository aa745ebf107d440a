"""Translate options into recipe keys by a table, and account for every one of them.

Knows nothing about any trainer: which options there are, and what becomes of them, is the `Table`'s: data in a YAML
file beside its importer.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lorasweep.config.suggest import unknown
from lorasweep.core import paths
from lorasweep.core.errors import Problem
from lorasweep.core.printable import has_control_characters

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_NO_CHANGE = "changes nothing together with the other options that are given"
_NOT_GIVEN = "stands for not given, there and here"
# What stands between two arguments: `betas=0.9, 0.99 weight_decay=0.1` is two.
_NEXT_ARGUMENT = re.compile(r"[\s,]+(?=[A-Za-z_]\w*\s*=)")


_KINDS: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str, "list": list}


@dataclass(frozen=True)
class Option:
    """A translated option."""

    kind: type  # int, float, bool, str, or list for arguments, whose options are `option.argument`
    keys: tuple[str, ...] = ()  # the recipe keys that it decides
    default: Any = None  # what the trainer takes when it is not given
    low: float | None = None  # low, high: the least and the most that makes sense; None is open
    high: float | None = None
    zero_is_unset: bool = False  # 0 is written for "not given", as windows over trainers do
    plain: bool = False  # it alone decides its one key, whose value is the option's
    where_on: bool = False  # but nothing where it is off
    where: str = ""  # and only beside another key's value, `adapter=lokr`
    # the trainer's words, in lower case, and what of ours each is; nothing else may stand there
    values: Mapping[str, Any] = field(default_factory=dict)
    otherwise: Any = None  # our word where the trainer's has no counterpart
    note: str = ""  # how ours differs, told where it is on


@dataclass(frozen=True, kw_only=True)
class Table:
    """What becomes of every option of a trainer."""

    trainer: str  # whose, for messages
    label: str  # the same in a word
    translated: Mapping[str, Option]  # option -> how
    unsupported: Mapping[str, str]  # option -> why it has no counterpart
    # the value that switches an unsupported option off, where that is not false, 0, "" or nothing
    off: Mapping[str, Any]
    harmless: Mapping[str, str]  # option -> why leaving it out changes nothing that is learned
    # what else the file holds: for the trainer's own functions, and where names and defaults were read
    more: Mapping[str, Any]

    def matters(self, option: str) -> tuple[bool, str] | None:
        """Tell whether leaving out an option matters, and why; None when the table says nothing.

        What it says of the option itself comes before what it says of the section that the option is in.
        """
        parts = option.split(".")
        for name in (".".join(parts[:length]) for length in range(len(parts), 0, -1)):
            for reasons, matters in ((self.unsupported, True), (self.harmless, False)):
                if name in reasons:
                    return matters, reasons[name]
        return None


def read_table(file: Path) -> Table:
    """Read the table; `config/kohya/options.yaml` shows and explains the form."""
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    rows = data.pop("translated")
    return Table(
        trainer=data.pop("trainer"),
        label=data.pop("label"),
        translated={
            name: Option(**{**row, "kind": _KINDS[row["kind"]], "keys": tuple(row.get("keys", ()))})
            for name, row in rows.items()
        },
        unsupported=_by_option(data.pop("unsupported")),
        off=data.pop("switched_off", {}),
        harmless=_by_option(data.pop("harmless")),
        more=data,
    )


def _by_option(reasons: Mapping[str, str]) -> dict[str, str]:
    return {option: reason for reason, options in reasons.items() for option in options.split()}


@dataclass(frozen=True)
class Line:
    """One key of the recipe."""

    value: Any  # plain data
    option: str  # the option that it comes from
    given: bool  # whether the files have that option; else the value is the trainer's default


@dataclass(frozen=True)
class Note:
    """Something that a person should know about one option."""

    option: str  # the trainer's name, `network_args.rank_dropout` for one inside a list
    value: Any  # as given; None when it is about a default
    reason: str  # in a sentence


@dataclass
class Draft:
    """A recipe being translated from options."""

    table: Table  # what becomes of the options
    options: dict[str, Any]  # what the files say, one flat dict; arguments as `network_args.conv_dim`
    lines: dict[str, Line] = field(default_factory=dict)  # recipe key -> value and origin, in the order of translation
    untranslated: list[Note] = field(default_factory=list)  # given, matters, and has no counterpart
    differs: list[Note] = field(default_factory=list)  # translated, but the counterpart is not quite the same
    left_out: list[Note] = field(default_factory=list)  # given, and changes nothing that is learned
    problems: list[Problem] = field(default_factory=list)  # values that make no sense
    # what the file calls an option, where that is another name than the table's
    names: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def given(self, option: str) -> bool:
        """Tell whether the files say anything about it: empty text and, where it is written so, 0 do not."""
        value = self.options.get(option)
        if value is None or value in ("", [], {}):
            return False
        row = self.table.translated.get(option)
        return not (row and row.zero_is_unset and str(value).strip() in ("0", "0.0"))

    def first(self, *options: str) -> str:
        """Return the first of several names of one thing that is given, else the last."""
        return next((option for option in options if self.given(option)), options[-1])

    def take(self, option: str, row: Option | None = None) -> Any:
        """Return the option's value as its kind, the trainer's default when it is not given, None without one."""
        row = row or self.table.translated[option]
        self._taken.add(option)
        if not self.given(option):
            return row.default
        value = self._checked(option, self.options[option], row)
        return row.default if value is None else value

    def choose(self, option: str) -> Any:
        """Choose our word for the one that an option has; a stand-in, and told, where there is none."""
        row = self.table.translated[option]
        asked = str(self.take(option)).strip().lower()
        if asked not in row.values:
            self.leave(option, f"no {row.keys[0]} of ours is that; {row.otherwise} stands in")
        return row.values.get(asked, row.otherwise)

    def untaken(self, option: str) -> Iterator[tuple[str, Any]]:
        """Return the arguments of an option that nobody has asked for, each with its value."""
        for name in [name for name in self.options if name.startswith(f"{option}.") and name not in self._taken]:
            yield name, self.options[name]

    def spread(self) -> None:
        """Make an option of each argument, from a list of `name=value`s, one text of them, or a table."""
        for option in [option for option, row in self.table.translated.items() if row.kind is list]:
            if found := dict(self._arguments(option, self.options.get(option) or [])):
                del self.options[option]
                self.options |= found

    def _arguments(self, option: str, given: Any) -> Iterator[tuple[str, Any]]:
        """Read numbers, booleans and tuples as Python has them; commas and blanks between arguments are only that."""
        if isinstance(given, Mapping):
            for name, value in given.items():
                yield f"{option}.{name}", _as_data(value) if isinstance(value, str) else value
            return
        found: dict[str, Any] = {}
        for item in given if isinstance(given, list) else [given]:
            for text in _NEXT_ARGUMENT.split(str(item).strip(" ,\t\r\n")) if item != "" else ():
                name, equals, value = (part.strip() for part in text.partition("="))
                if not equals or not name:
                    self.problem(option, f"must be name=value each, got {text!r}")
                    continue
                if name in found and found[name] != _as_data(value):
                    reason = "is given twice: the last one counts, as there"
                    self.differ(f"{option}.{name}", reason, found[name])
                found[name] = _as_data(value)
        for name, value in found.items():
            yield f"{option}.{name}", value

    def put(self, key: str, value: Any, option: str, *, given: bool | None = None) -> None:
        """Decide a recipe key by an option; `given` where it follows from more than that option."""
        self.lines[key] = Line(value, option, self.given(option) if given is None else given)

    def put_plain(self) -> None:
        """Decide the keys of all options that decide one by themselves."""
        for option, row in self.table.translated.items():
            key, _, value = row.where.partition("=")
            is_read = not key or self.lines[key].value == value
            if row.plain and is_read and (not row.where_on or self.take(option)):
                value = self.choose(option) if row.values else self.take(option)
                self.put(row.keys[0], value, option)
                if row.note and self.given(option) and value:
                    self.differ(option, row.note)

    def ignore(self, option: str, reason: str) -> None:
        """Leave out an option that, with the others as they are, changes nothing; not one already told."""
        if self.given(option) and option not in self._told_options():
            self.left_out.append(Note(option, self.options[option], reason))

    def leave(self, option: str, reason: str, value: Any = None) -> None:
        """Say that something given has no counterpart; `value` where it is not the option's own."""
        self.untranslated.append(self._note(option, reason, value))

    def differ(self, option: str, reason: str, value: Any = None) -> None:
        """Say that the counterpart is not quite the same; `value` where it is not the option's own."""
        self.differs.append(self._note(option, reason, value))

    def problem(self, option: str, message: str, hint: str = "mend the file") -> None:
        """Say that a value makes no sense; once, however often it is looked at."""
        problem = Problem(option, message, hint)
        if problem not in self.problems:
            self.problems.append(problem)

    def judge_the_rest(self) -> None:
        """Sort every option of the files that nothing was said about: none is dropped in silence."""
        table, told, roots = self.table, self._told(), self._told_options()
        for option, value in self.options.items():
            if option in told or option in roots:
                continue
            root, dot, _ = option.partition(".")
            if dot and root in table.translated:
                self.left_out.append(Note(option, value, _NO_CHANGE if value else _NOT_GIVEN))
            elif found := table.matters(option):
                matters, reason = found
                if not matters:
                    self.left_out.append(Note(option, value, reason))
                elif _is_off(value, table.off.get(option)):
                    self.left_out.append(Note(option, value, "is off, as it always is here"))
                else:
                    self.leave(option, reason)
            elif option in table.translated:
                self.left_out.append(Note(option, value, _NO_CHANGE if self.given(option) else _NOT_GIVEN))
            else:
                reason = f"not an option of {table.trainer} that is known here"
                self.leave(option, unknown(reason, option, table.translated))

    def _note(self, option: str, reason: str, value: Any) -> Note:
        given = self.options.get(option) if self.given(option) else None
        return Note(option, given if value is None else value, reason)

    def _told(self) -> set[str]:
        """Return what lines, notes and problems speak of: `network_dim`, `network_args.conv_dim`."""
        lines = (line.option for line in self.lines.values() if line.given)
        notes = (note.option for note in (*self.untranslated, *self.differs, *self.left_out))
        return {*lines, *notes, *(problem.where for problem in self.problems)}

    def _told_options(self) -> set[str]:
        return {option.split(".")[0] for option in self._told()}

    def _checked(self, option: str, given: Any, row: Option) -> Any:
        """Return the value as the row's kind and in its range; None, with a problem, when it is not."""
        try:
            value = as_kind(given, row.kind)
        except (ValueError, TypeError, OverflowError):
            self.problem(option, f"must be {_WORDS[row.kind]}, got {given!r}")
            return None
        if row.kind is str and (has_control_characters(value) or re.search(r"[\t\n]", value)):
            # "D:\new\train" in double quotes: a line break and a tab
            hint = "in TOML a path with backslashes stands in single quotes: 'D:\\new\\train'"
            self.problem(option, f"must be text without control characters, got {value!r}", hint)
        elif row.low is not None and value < row.low:
            self.problem(option, f"must be >= {row.low:g}, got {given!r}")
        elif row.high is not None and value > row.high:
            self.problem(option, f"must be <= {row.high:g}, got {given!r}")
        elif row.kind is str and any(key.endswith((".path", ".init")) for key in row.keys):
            return paths.as_here(value)
        else:
            return value
        return None


def as_kind(value: Any, kind: type) -> Any:
    """Read a value as a finite number, a boolean or text, or leave a list alone; raises ValueError and its kin."""
    if kind is list:
        return value
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


def _is_off(value: Any, off: Any) -> bool:
    """Tell whether an option without a counterpart is switched off; some are by being true."""
    if off is True:
        return str(value).strip().lower() not in ("false", "0")
    if isinstance(value, str):
        try:
            return float(value) in (0, off)
        except ValueError:
            return value.strip().lower() in ("", "false", "none", str(off).lower())
    return not value or value == off


def _as_data(text: str) -> Any:
    """Return an argument's value as Python writes it, true and false as people do; else the text itself."""
    text = text.strip(" ,\t\r\n")
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
