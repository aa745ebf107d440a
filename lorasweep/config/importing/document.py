"""Read a trainer's file as data, whatever it is called: JSON, TOML or YAML; or name the program that wrote another."""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lorasweep.config.yaml_file import read_text
from lorasweep.core.errors import ConfigError, Problem

_SUBJECT = "the trainer's config"
_LARGEST_NUMBER = 2**63
_DEEPEST = 100
_BY_HAND = "docs/flags.md has its options beside lorasweep's: write a recipe file by it"
# Keys that only one program writes -> what the file is, and the next step. First match wins.
_KEYS = {
    "nbformat": ("a notebook (JSON)", "give the TOML files that it wrote into its config folder"),
    "adapter.type adapter.rank": ("a diffusion-pipe config", _BY_HAND),
    "_source_script": ("a preset of a window over musubi-tuner", _BY_HAND),
    "recipe": ("a recipe of lorasweep already", "give it to `lorasweep plan` as it is"),
}


def read(path: Path) -> Mapping[str, Any] | None:
    """Return a file's options by their names; None where it has none, or is none of the three.

    Raises:
        ConfigError: it cannot be read, gives a key twice, or has a number that nothing takes.
    """
    content = read_any(path)
    return content if isinstance(content, Mapping) and all(isinstance(key, str) for key in content) else None


def read_any(path: Path) -> Any:
    """Return a file's content, a list too; None where it is none of the three. Raises as `read`."""
    text = read_text(path, subject=_SUBJECT)
    readers: tuple[Callable[[str], Any], ...] = (_json, tomllib.loads, _yaml)
    for reader in readers:
        with contextlib.suppress(ValueError, RecursionError, yaml.YAMLError):
            return _checked(path, text, reader)
    return None


def as_json(path: Path, text: str) -> Any:
    """Return the content of a file's text; raises ValueError or RecursionError where it is no JSON, else as `read`."""
    return _checked(path, text, _json)


def _checked(path: Path, text: str, reader: Callable[[str], Any]) -> Any:
    try:
        content = reader(text)
    except _GivenTwice as error:
        message = f"the key `{error}` is given twice in one place"
        raise ConfigError(Problem(str(path), message, "keep one of them"), subject=_SUBJECT) from error
    if what := next(strange_numbers("", content), None):
        raise ConfigError(Problem(str(path), what, "mend the file"), subject=_SUBJECT)
    return content


class _GivenTwice(Exception):
    """A key that stands twice in one table, of which libraries take the last in silence; TOML has an error for it."""


def _table(pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _GivenTwice(key)
        found[key] = value
    return found


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_table)


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        _table([(key.value, None) for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        return super().construct_mapping(node, deep=deep)


def _yaml(text: str) -> Any:
    """Read data without anchors: a file of a few lines could name more of them than fit into memory."""
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise ValueError
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def strange_numbers(at: str, value: Any, depth: int = 0) -> Iterator[str]:
    """List whole numbers beyond 64 bits, which cannot even be shown, and a nesting beyond any option."""
    if depth > _DEEPEST:
        yield f"{at} is nested deeper than any option"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from strange_numbers(f"{at}.{key}".lstrip("."), inner, depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from strange_numbers(f"{at}[{index}]", inner, depth + 1)
    elif isinstance(value, int) and not -_LARGEST_NUMBER <= value < _LARGEST_NUMBER:
        yield f"{at} is a larger number than any option takes"


def named_by_keys(content: Any) -> tuple[str, str] | None:
    """Tell what a file is by its keys, and the next step; None when they say nothing."""
    if not isinstance(content, Mapping):
        return None
    inner = content.get("adapter")
    return _named([*content, *(f"adapter.{key}" for key in inner)] if isinstance(inner, Mapping) else content)


def _named(keys: Iterable[str]) -> tuple[str, str] | None:
    present = set(keys)
    return next((answer for marks, answer in _KEYS.items() if present.issuperset(marks.split())), None)


def named_by_text(text: str) -> tuple[str, str] | None:
    """Tell what a file is that is no TOML, and the next step; None when it looks like a broken TOML."""
    if text.lstrip().startswith(("{", "[")):
        try:
            content = json.loads(text)
            if isinstance(content, list):
                return "a list in JSON, without the options of a training", "give it with --dataset, after that config"
            return named_by_keys(content) or ("JSON, not the TOML of sd-scripts", _BY_HAND)
        except (ValueError, RecursionError):
            pass
    if "train_network.py" in text:
        hint = "write it into a file of its own, with values in place of variables; docs/flags.md has its options"
        return "a command line that branches put together, or whose quotes or lines do not hang together", hint
    if re.search(r"\S+\.py\b", text) and "--" in text:
        return "the command line of another trainer", _BY_HAND
    if re.search(r"^\s*(\w+:|-)\s+[&*]\w", text, re.MULTILINE):
        return "YAML with anchors (&name) or aliases (*name), which are not read", "write out what they stand for"
    if keys := re.findall(r"^([A-Za-z_]\w*):(?:\s|$)", text, re.MULTILINE):
        return _named(keys) or ("YAML, not the TOML of sd-scripts", _BY_HAND)
    if re.search(r"^\s*(export\s+)?[A-Z_]+=", text, re.MULTILINE):
        return "a file of environment variables (SimpleTuner's config.env is one)", _BY_HAND
    return None
