"""Keys whose values are text (paths, triggers, tags), and such values as people type them.

Hydra's grammar takes `2024_05`, `1e5` and `true` for numbers and booleans, and cannot read `红发` or
`saber (fate)` without quotes. Where only text makes sense, a value is text as it is written:

    dataset.path=2024_05                       captions.trigger=007
    captions.prune=[saber (fate),zoé,1girl]    captions.clean.replacements={red hair:"hair, red"}

Quotes, lists, dicts, escapes and `null` are written as in Hydra's grammar.
"""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from lorasweep.config.bind import builder_knobs, find_module
from lorasweep.config.places import LIST_GROUPS
from lorasweep.core import hydra_text, registry
from lorasweep.core.records import Recipe

_CHOICE = re.compile(r"choice\((.*)\)\s*", re.DOTALL)
_QUOTED = re.compile(r'"((?:\\.|[^"\\])*)"|' r"'((?:\\.|[^'\\])*)'", re.DOTALL)
_ESCAPED = re.compile(r"\\([\\()\[\]{}:=, \t])")
_OF_A_SWEEP = ("sweep.name", "sweep.question")  # the only keys of text that are not the recipe's
_CUT_OPEN = re.compile(r"[\w ]\([^)]*$")  # `saber (fate`, but not `:(`


@dataclass(frozen=True)
class Scalar:
    """An unquoted number or boolean of a YAML file: text where text is wanted, else its value."""

    text: str
    value: bool | int | float

    def __repr__(self) -> str:
        return self.text

    __str__ = __repr__


@functools.cache
def is_text(key: str) -> bool:
    """Tell whether a dotted key takes nothing but text, lists of text or text by name (or null)."""
    return _all_text(_hint(key))


def _is_whole(key: str) -> bool:
    """Tell whether commas and brackets are part of a text key's value."""
    return is_path(key) or key in _OF_A_SWEEP


_FILES = ("calibration", "base.weights", "base.adapter", "sample.base")


def is_path(key: str) -> bool:
    """Tell whether a dotted key takes a file or folder, whose name may hold commas and brackets."""
    group, _, last = key.rpartition(".")
    return is_text(key) and (last in ("path", "init") or group == "encoders" or key in _FILES)


def read_text(key: str, written: str) -> Any:
    """Read the value of a text key: text, a list or a dict of text, None for `null`; a ValueError says what is open."""
    written = written.strip()
    if written.lower() == "null":
        return None
    if "\n" in written:
        raise ValueError("it must be one line")
    if "${" in written or (_is_whole(key) and not _QUOTED.fullmatch(written)):
        return written
    reader = _Reader(written)
    value = reader.value(ends="")
    reader.expect_end()
    return value


def read_several(key: str, written: str) -> list[Any] | None:
    """Read `choice(a,b)` or `a,b` of a text key; None when it is one value. Raises as `read_text`."""
    match = _CHOICE.fullmatch(written.strip())
    if match is None and (_is_whole(key) or "${" in written):
        return None
    reader = _Reader(match.group(1) if match else written.strip())
    values = reader.items(ends="", top=True)
    reader.expect_end()
    return values if match or len(values) > 1 else None


def quoted(key: str, written: str) -> str:
    """Spell a value that could not be read with quotes, as what it was probably meant to be."""
    text = written.strip()
    if text[:1] == "{":
        return f'{key}={{"a (b)":"c, d"}}'
    if not (text[:1] == "[" and text[-1:] == "]"):
        return f"{key}={hydra_text.in_quotes(written)}"
    items: list[str] = []
    for piece in text[1:-1].split(","):
        if items and _CUT_OPEN.search(items[-1]):
            items[-1] += f",{piece}"
        else:
            items.append(piece.strip().strip("\"'"))
    return f"{key}=[{','.join(map(hydra_text.in_quotes, items))}]"


def settled(key: str, value: Any) -> Any:
    """Tell what a value from a YAML file means for a key: its text as written, or what YAML reads in it."""
    if isinstance(value, Mapping):
        return {name: settled(key, each) for name, each in value.items()}
    if isinstance(value, list):
        return [settled(key, each) for each in value]
    if isinstance(value, Scalar):
        return value.text if is_text(key) else value.value
    return value


class _Reader:
    """Reads from left to right; `ends` are the characters that end a bare word where it stands."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text.lstrip(" \t"), 0

    def value(self, *, ends: str) -> Any:
        if self._take("["):
            items = self.items(ends="]")
            self._expect("]")
            return items
        return self._dict() if self._take("{") else self._word(ends)

    def items(self, *, ends: str, top: bool = False) -> list[Any]:
        """Return values between commas; `null` is None where it is a value of its own (`top`)."""
        values: list[Any] = []
        while self.at < len(self.text) and self.text[self.at] not in ends:
            begin = self.at
            value = self.value(ends="," + ends)
            if isinstance(value, str) and _CUT_OPEN.search(value) and self.text[begin] not in "\"'":
                raise ValueError(f"it is not clear where {value!r} ends")
            bare_null = top and self.text[begin : self.at].strip().lower() == "null"
            values.append(None if bare_null else value)
            if not self._take(","):
                break
        return values

    def _dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self.at < len(self.text) and self.text[self.at] != "}":
            key = self._word(":")
            self._expect(":")
            if key in found:
                raise ValueError(f"{key!r} is given twice")
            found[key] = self.value(ends=",}")
            if not self._take(","):
                break
        self._expect("}")
        return found

    def _word(self, ends: str) -> str:
        if match := _QUOTED.match(self.text, self.at):
            self._go_to(match.end())
            quote = match.group()[0]
            return re.sub(rf"(\\+)(?={quote}|$)", lambda m: "\\" * (len(m[1]) // 2), match.group()[1:-1])
        begin = self.at
        while self.at < len(self.text) and self.text[self.at] not in ends:
            self.at += 2 if _ESCAPED.match(self.text, self.at) else 1
        word = self.text[begin : self.at].strip()
        if word[:1] in ("'", '"') and word[:1]:
            raise ValueError(f"the quote of {word!r} is not closed")
        if ends and re.search(r"(?<!\\)[\[\]{}]", word):
            raise ValueError(f"brackets in {word!r} need quotes")
        return _ESCAPED.sub(r"\1", word)

    def expect_end(self) -> None:
        if self.at < len(self.text):
            raise ValueError(f"nothing may follow before {self.text[self.at :]!r}")

    def _take(self, character: str) -> bool:
        """Read a character, if it is the next one."""
        found = self.text.startswith(character, self.at)
        if found:
            self._go_to(self.at + 1)
        return found

    def _expect(self, character: str) -> None:
        if not self._take(character):
            raise ValueError(f"a `{character}` is missing")

    def _go_to(self, place: int) -> None:
        """Stand behind the blanks that begin at a place."""
        self.at = len(self.text) - len(self.text[place:].lstrip(" \t"))


def _hint(key: str) -> Any:
    """Return the type of a key of the recipe; None where that depends on which part is chosen, or there is none."""
    if key in _OF_A_SWEEP:
        return str
    group, *path = key.split(".")
    if group in LIST_GROUPS and len(path) == 2:
        module = find_module(group, path[0], at="", problems=[])
        return builder_knobs(module)[path[1]].hint if module and path[1] in builder_knobs(module) else None
    if group == "launcher" and len(path) == 1:
        modules = registry.modules(group).values()
        own = {key: knob.hint for module in modules for key, knob in builder_knobs(module).items()}
        if path[0] in own:
            return own[path[0]]
    hint: Any = Recipe
    for part in (group, *path):
        hint = typing.get_type_hints(hint).get(part) if isinstance(hint, type) else None
    return hint


def _all_text(hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _all_text(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return all(_all_text(each) for each in arguments if each is not type(None))
    if origin in (tuple, list):
        return _all_text(arguments[0])
    return _all_text(arguments[1]) if origin is dict else hint is str
