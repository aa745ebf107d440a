"""Inspect images, remembering what was found: `plan` of a folder that has not changed reads no image twice.

Takes paths, gives back facts. The memory is `cache/images.json`, keyed by path, size and time of change;
losing it costs time only.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorasweep.core import files, paths
from lorasweep.core.errors import DatasetError, Problem
from lorasweep.data.images import VERSION, ImageFacts, inspect

_MOST_REMEMBERED = 200_000  # images; some 60 MB


def inspect_all(images: Sequence[Path]) -> tuple[dict[Path, ImageFacts], list[Problem]]:
    """Inspect every image.

    Returns:
        Facts of the images that can be used, and the problems with the others.
    """
    known = _read_memory()
    new: dict[str, dict[str, Any]] = {}
    facts: dict[Path, ImageFacts] = {}
    problems: list[Problem] = []
    for path in images:
        key = _key(path)
        try:
            facts[path] = ImageFacts(**known[key]) if key in known else inspect(path)
        except DatasetError as error:
            problems += error.problems
            continue
        if key not in known:
            new[key] = dataclasses.asdict(facts[path])
    if new:
        _write_memory(known | new)
    return facts, problems


def _key(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:
        return str(path)  # a broken link: `inspect` says so
    return f"{VERSION}|{path}|{stat.st_size}|{stat.st_mtime_ns}"


def _read_memory() -> dict[str, dict[str, Any]]:
    try:
        memory = files.read_json(_memory_file())
    except (OSError, json.JSONDecodeError):
        return {}
    if not isinstance(memory, dict):
        return {}
    fields = {field.name for field in dataclasses.fields(ImageFacts)}
    return {key: fact for key, fact in memory.items() if isinstance(fact, dict) and fact.keys() == fields}


def _write_memory(memory: dict[str, dict[str, Any]]) -> None:
    try:
        latest = list(memory.items())[-_MOST_REMEMBERED:]
        files.write_json(_memory_file(), dict(latest))
    except OSError:
        return  # a cache that cannot be written only costs time


def _memory_file() -> Path:
    return paths.cache() / "images.json"
