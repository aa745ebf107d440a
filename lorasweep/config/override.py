"""Read `KEY=VALUE` in Hydra's grammar, as data: no resolvers, no `_target_`, no several values at once.

Takes the strings that people type and gives back `Override`s, or the problem with each. Knows nothing about
which keys exist.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override as HydraOverride
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException

from lorasweep.config.suggest import MOVED, word_advice
from lorasweep.config.text_value import is_path, is_text, quoted, read_several, read_text, settled
from lorasweep.core import once, paths
from lorasweep.core.errors import ConfigError, InputError, Problem
from lorasweep.core.hydra_text import in_quotes, write
from lorasweep.core.printable import command, has_control_characters

_KEY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z0-9_]\w*)*")
_SLIPS = str.maketrans("()−–’‘“”", "[]--''\"\"")  # brackets of Python, and what word processors make of signs


@dataclass(frozen=True)
class Override:
    """One `KEY=VALUE`, parsed."""

    key: str  # dotted key, or a group's name; of one that moved, where it is now
    value: Any  # plain data; lists and dicts hold plain data
    delete: bool  # `~KEY`: take the key out
    text: str  # as it was typed


def parse(texts: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    """Parse overrides, collecting every problem."""
    parser = OverridesParser.create()
    overrides, problems = [], []
    for text in texts:
        parsed = _parse_one(parser, text)
        if isinstance(parsed, Problem):
            problems.append(parsed)
        else:
            overrides.append(parsed)
    return overrides, problems


def is_override(word: str) -> bool:
    """Tell whether a word is KEY=VALUE or ~KEY, and no file that is there: a folder's name may have a `=` in it."""
    is_file = word.endswith((".yaml", ".yml")) and os.path.isfile(os.path.expanduser(word))
    return not is_file and ("=" in word or re.match(r"~\w+(\.|$)", word) is not None)


def repeats(texts: Sequence[str], at: str = "") -> list[Problem]:
    """Find keys that one person gave two values in one place, of which only the last would count."""
    given: dict[str, str] = {}
    found = []
    for text in texts:
        key, equals, value = text.lstrip("+").partition("=")
        if key.startswith("~"):
            key, equals, value = key[1:], "=", "taken out"
        key = key.replace("/", ".")
        if equals and given.setdefault(key, value) != value:
            message = f"is given twice: {given[key]} and {value}"
            found.append(Problem(f"{at}.{key}".lstrip("."), message, "keep one of them"))
    return found


def as_overrides(keys: Any, at: str, problems: list[Problem]) -> list[str]:
    """Write a mapping of keys and values as `KEY=VALUE`s; nested mappings become dotted keys."""
    texts = _flat(keys, at, problems)
    problems += repeats(texts, at)
    return texts


def _flat(keys: Any, at: str, problems: list[Problem]) -> list[str]:
    if not isinstance(keys, Mapping):
        problems.append(Problem(at, f"must have keys, got {keys!r}", "e.g. {optimizer.lr: 1e-4}"))
        return []
    texts: list[str] = []
    for key, value in keys.items():
        if isinstance(value, Mapping) and value and not is_text(str(key)):
            texts += _flat({f"{key}.{inner}": item for inner, item in value.items()}, at, problems)
        else:
            texts.append(write(str(key), settled(str(key), value)))
    return texts


def unsafe(where: str, value: Any) -> Iterator[Problem]:
    """Find what makes data more than data: `_target_`-like keys, `${...}`, terminal escapes, however deep.

    A recipe is shared on the web, so reading one must never run code, read the environment, or write on the
    terminal what is not there.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if is_special(str(key)):
                yield special(f"{where}.{key}".lstrip("."), str(key))
            yield from unsafe(f"{where}.{key}".lstrip("."), inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from unsafe(f"{where}[{index}]", inner)
    elif isinstance(value, str) and "${" in value:
        yield Problem(where, f"`${{...}}` is not read here: a recipe is data, got {value!r}", "write the value itself")
    elif isinstance(value, str) and has_control_characters(value):
        yield Problem(where, f"must be text without control characters, got {value!r}", "take them out")


def is_special(key: str) -> bool:
    """Tell whether some part of a dotted key looks like `_target_`."""
    return any(len(part) > 2 and part.startswith("_") and part.endswith("_") for part in key.split("."))


def special(where: str, key: str) -> Problem:
    """Return the problem with a `_target_`-like key."""
    name = next(part for part in key.split(".") if is_special(part))
    return Problem(where, f"`{name}` is refused: a recipe is data, not code", "choose a part by name: adapter=lora")


@once.per(lambda parser, text: text)
def _parse_one(parser: OverridesParser, text: str) -> Override | Problem:
    if "=" not in text and (advice := word_advice(text)):
        return Problem(text, "must be KEY=VALUE", advice)
    name, equals, written = text.partition("=")
    if equals and is_text(name.lstrip("+")):
        return _parse_text(name.lstrip("+"), written, text)
    try:
        parsed: HydraOverride = parser.parse_override(text)
    except HydraException as error:
        return Problem(text, f"must be KEY=VALUE, {first_line(error)}", _advice(parser, text))
    key = parsed.key_or_group.replace("/", ".")
    key = MOVED.get(key, key)
    if is_special(key):
        return special(text, key)
    if key.split(".")[0] == "hydra":
        return Problem(text, "Hydra's own settings cannot be changed", "only the recipe's keys, see conf/recipe.yaml")
    if parsed.package is not None:
        return Problem(text, "`@package` is not used in overrides", f"write {parsed.key_or_group}=...")
    if not _KEY.fullmatch(key):
        return Problem(text, "must be KEY=VALUE with a dotted key", "e.g. optimizer.lr=1e-4")
    if parsed.is_sweep_override():
        return Problem(text, "gives several values where one is expected", _several_advice(text))
    delete = parsed.type == OverrideType.DEL
    if delete and parsed.value() is not None:
        hint = f"~{key}, in a file `~{key}: null`, or {key}=VALUE"
        return Problem(text, "takes a key out, so it has no value", hint)
    value = None if delete else plain(parsed.value())
    return _checked(Override(key=key, value=value, delete=delete, text=text))


def _parse_text(key: str, value: str, text: str) -> Override | Problem:
    if is_path(key) and value.strip().lower() == "null" and os.path.exists(value.strip()):
        return Problem(text, "means none, and there is a file or folder of that name", f"{key}=./null")
    if is_path(key) and (problem := _home_problem(text, value)):
        return problem
    try:
        if read_several(key, value) is not None:
            return Problem(text, "gives several values where one is expected", _several_advice(text))
        return _checked(Override(key=key, value=read_text(key, value), delete=False, text=text))
    except ValueError as error:
        return Problem(text, f"cannot be read: {error}", f"quote the text: {command(quoted(key, value))}")


def _home_problem(text: str, value: str) -> Problem | None:
    try:
        paths.typed(value)
    except InputError as error:
        return Problem(text, error.problems[0].message, error.problems[0].hint)
    return None


def _checked(override: Override) -> Override | Problem:
    problem = next(unsafe(override.key, override.value), None)
    return override if problem is None else Problem(override.text, problem.message, problem.hint)


def texts(words: Iterable[Any], what: str = "KEY=VALUE") -> list[str]:
    """Take words, or lists of them, as text; raises ConfigError where something else was given."""
    each = [word for some in words for word in (some if isinstance(some, list | tuple) else [some])]
    problems = [
        Problem(repr(word)[:80], f"must be {what} as text, or a list of them")
        for word in each
        if not isinstance(word, str | Path)
    ]
    if problems:
        raise ConfigError(problems)
    return [str(word) for word in each]


def plain(value: Any) -> Any:
    """Tell what Hydra's parser read, as plain data."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    # Hydra's QuotedString carries its text; casts such as `int(3)` are evaluated by the parser already.
    return getattr(value, "text", value)


def first_line(error: Exception) -> str:
    """Tell what a library says, without its stack of causes."""
    return str(error).splitlines()[0].strip()


def _advice(parser: OverridesParser, text: str) -> str:
    """Return what was probably meant: the same without slips of typing, or else with quotes."""
    key, equals, value = text.partition("=")
    if not equals:
        return f"write {text}=VALUE"
    cleaned = value.strip("=, \t").translate(_SLIPS)
    meant = f"{key.strip()}={cleaned}"
    if cleaned != value and not isinstance(_parse_one(parser, meant), Problem):
        return f"did you mean {command(meant)}?"
    return f"quote the value for Hydra too: {command(f'{key}={in_quotes(value)}')}"


def _several_advice(text: str) -> str:
    key, _, value = text.partition("=")
    text_with_commas, several = command(f"{key}={in_quotes(value)}"), command(text)
    return (
        f"a list is {key}=[{value}], text with commas is {text_with_commas}, "
        f"a comparison is lorasweep -m {several}, or a sweep file"
    )
