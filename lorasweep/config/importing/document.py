"""Read a trainer's file as data, whatever it is called: JSON, TOML or YAML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lorasweep.config.yaml_file import read_text
from lorasweep.core.errors import ConfigError, Problem

_SUBJECT = "the trainer's config"
_LARGEST_NUMBER = 2**63
_DEEPEST = 100


def read(path: Path) -> Mapping[str, Any] | None:
    """A file's options by their names; None where it has none, or is none of the three.

    Raises:
        ConfigError: it cannot be read, gives a key twice, or has a number that nothing takes.
    """
    content = read_any(path)
    return content if isinstance(content, Mapping) and all(isinstance(key, str) for key in content) else None


def read_any(path: Path) -> Any:
    """A file's content, a list too; None where it is none of the three.

    Raises:
        ConfigError: as `read`.
    """
    text = read_text(path, subject=_SUBJECT)
    readers: tuple[Callable[[str], Any], ...] = (_json, tomllib.loads, _yaml)
    for reader in readers:
        try:
            content = reader(text)
        except _GivenTwice as error:
            message = f"the key `{error}` is given twice in one place"
            raise ConfigError(Problem(str(path), message, "keep one of them"), subject=_SUBJECT) from error
        except (ValueError, RecursionError, yaml.YAMLError):
            continue
        if what := next(strange_numbers("", content), None):
            raise ConfigError(Problem(str(path), what, "mend the file"), subject=_SUBJECT)
        return content
    return None


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
    """Data without anchors: a file of a few lines could name more of them than fit into memory."""
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise ValueError
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader


def strange_numbers(at: str, value: Any, depth: int = 0) -> Iterator[str]:
    """Whole numbers beyond 64 bits, which cannot even be shown, and a nesting beyond any option."""
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
