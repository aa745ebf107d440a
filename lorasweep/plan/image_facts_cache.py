"""Inspect images, remembering what was found: `plan` of a folder that has not changed reads no image twice.

Takes paths, gives back facts. The memory is `cache/images.json`, keyed by path, size and times of change;
losing it costs time only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lorasweep.core import files, paths
from lorasweep.core.errors import DatasetError, Problem
from lorasweep.data.images import VERSION, ImageFacts, inspect

_MOST_REMEMBERED = 200_000  # images; some 60 MB


def inspect_all(images: Iterable[Path]) -> tuple[dict[Path, ImageFacts], list[Problem]]:
    """Inspect every image: facts of those that can be used, and the problems with the others."""
    fields = {field.name for field in dataclasses.fields(ImageFacts)}
    remembered = files.read_object(_memory())
    known = {key: fact for key, fact in remembered.items() if isinstance(fact, dict) and fact.keys() == fields}
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
        files.write_cache(_memory(), dict([*known.items(), *new.items()][-_MOST_REMEMBERED:]))
    return facts, problems


def _key(path: Path) -> str:
    try:
        return "|".join(map(str, [VERSION, path, *files.stamp(path)]))
    except OSError:
        return str(path)  # a broken link: `inspect` says so


def _memory() -> Path:
    return paths.facts("images")
