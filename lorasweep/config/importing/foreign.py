"""Name the file that an importer does not read: which program wrote it, and what to do instead.

Knows only the marks by which such files are told apart; reads nothing of what they say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

_BY_HAND = "docs/flags.md has its options beside lorasweep's: write a recipe file by it"

# Keys that only one program writes -> what the file is, and the next step. First match wins.
_KEYS = {
    "nbformat": ("a notebook (JSON)", "give the TOML files that it wrote into its config folder"),
    "adapter.type adapter.rank": ("a diffusion-pipe config", _BY_HAND),
    "recipe": ("a recipe of lorasweep already", "give it to `lorasweep plan` as it is"),
}


def named_by_keys(content: Any) -> tuple[str, str] | None:
    """What a file is by its keys, and the next step; None when they say nothing."""
    if not isinstance(content, Mapping):
        return None
    inner = content.get("adapter")
    return _named([*content, *(f"adapter.{key}" for key in inner)] if isinstance(inner, Mapping) else content)


def _named(keys: Iterable[str]) -> tuple[str, str] | None:
    present = set(keys)
    return next((answer for marks, answer in _KEYS.items() if present.issuperset(marks.split())), None)


def named_by_text(text: str) -> tuple[str, str] | None:
    """What a file is that is no TOML, and the next step; None when it looks like a broken TOML."""
    if text.lstrip().startswith(("{", "[")):
        try:
            content = json.loads(text)
            if isinstance(content, list):
                return "a list in JSON, without the options of a training", "give it with --dataset, after that config"
            return named_by_keys(content) or ("JSON, not the TOML of sd-scripts", _BY_HAND)
        except (ValueError, RecursionError):
            pass
    if re.search(r"\S+\.py\b", text) and "--" in text:
        return "the command line of another trainer (diffusers' examples have such)", _BY_HAND
    if re.search(r"^\s*(\w+:|-)\s+[&*]\w", text, re.MULTILINE):
        return "YAML with anchors (&name) or aliases (*name), which are not read", "write out what they stand for"
    if keys := re.findall(r"^([A-Za-z_]\w*):(?:\s|$)", text, re.MULTILINE):
        return _named(keys) or ("YAML, not the TOML of sd-scripts", _BY_HAND)
    if re.search(r"^\s*(export\s+)?[A-Z_]+=", text, re.MULTILINE):
        return "a file of environment variables (SimpleTuner's config.env is one)", _BY_HAND
    return None
