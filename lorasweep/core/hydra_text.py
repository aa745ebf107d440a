"""Text in Hydra's grammar of overrides."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_WORDS = re.compile(r"[\w./-]+( [\w./-]+)*", re.ASCII)
_KEY = re.compile(r"[\w./*+-]+( [\w./*+-]+)*")  # of a dict; Hydra itself reads no other
_NOT_TEXT = {"null", "true", "false", "nan", "inf"}


def write(key: str, value: Any) -> str:
    """Write plain data (as read from YAML) as an override that is read back as the same data."""
    return f"{key}={_literal(value, _WORD)}"


def write_text(key: str, value: Any) -> str:
    """Write text, or texts, for a key that has no other, with quotes only where they must be: some shells lose them."""
    return f"{key}={_literal(value, _WORDS)}"


def in_quotes(text: str) -> str:
    """Write text in quotes, where a backslash only matters before a quote and at the end, and is doubled there."""
    escaped = re.sub(r'(\\*)"', lambda match: match.group(1) * 2 + '\\"', text)
    return '"' + re.sub(r"(\\+)$", lambda match: match.group(1) * 2, escaped) + '"'


def shortened(override: str) -> str:
    """Return an override as one reads it: `optimizer.lr=0.005374` of `optimizer.lr=0.005374457798659756`."""
    key, equals, value = override.partition("=")
    try:
        number = float(value)
    except ValueError:
        return override
    read = f"{number:.4g}"
    return f"{key}{equals}{read}" if len(read) < len(value) and not value.isdigit() else override


def _literal(value: Any, plain: re.Pattern[str]) -> str:
    if isinstance(value, Mapping):
        pairs = ((key if _KEY.fullmatch(key) else in_quotes(key), inner) for key, inner in value.items())
        return "{" + ",".join(f"{key}:{_literal(inner, plain)}" for key, inner in pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_literal(inner, plain) for inner in value) + "]"
    if isinstance(value, str):
        return value if plain.fullmatch(value) and value.lower() not in _NOT_TEXT else in_quotes(value)
    return json.dumps(value)
