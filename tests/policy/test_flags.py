"""docs/flags.md against what import-kohya does and what a recipe has: the table cannot rot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lorasweep.config.kohya.options import DEFAULTS, TABLE
from lorasweep.config.places import GROUPS

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "docs" / "flags.md").read_text(encoding="utf-8").splitlines()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in LINES if line.startswith("|")]
MAPPED = [row for row in ROWS if len(row) == 5 and row[0] not in ("kohya", "---")]
CODE = re.compile(r"`([^`]+)`")


def leaves(data: Any, at: str) -> Iterator[str]:
    yield at
    for key, inner in data.items() if isinstance(data, dict) else ():
        yield from leaves(inner, f"{at}.{key}")


def recipe_keys() -> set[str]:
    found = {"seed"}
    for group in GROUPS:
        for file in (ROOT / "conf" / group).glob("*.yaml"):
            text = file.read_text(encoding="utf-8")
            package = re.match(r"# @package (\S+)", text)
            found |= {group, *leaves(yaml.safe_load(text), package[1] if package else group)}
    return found


def test_every_key_of_ours_in_the_table_is_in_a_recipe() -> None:
    known, named = recipe_keys(), {key for row in MAPPED for key in CODE.findall(row[3])}
    assert len(named) > 50
    for key in named:
        group, equals, choice = key.partition("=")
        assert group in known, key
        assert not equals or (ROOT / "conf" / group / f"{choice}.yaml").is_file(), key


@pytest.mark.parametrize("option", [name for name in TABLE.translated if "." not in name])
def test_what_import_kohya_translates_is_in_the_table(option: str) -> None:
    rows = [row for row in MAPPED if f"`{option}`" in row[0]]
    assert len(rows) == 1
    assert set(CODE.findall(rows[0][3])) == set(TABLE.translated[option].keys)
    if DEFAULTS.get(option) and f"[{DEFAULTS[option]}]" not in rows[0][0]:
        told = re.search(r"\[(.*)\]", rows[0][0])
        assert told is None or float(told[1]) == float(DEFAULTS[option])


def test_what_has_no_counterpart_is_told_with_the_reason() -> None:
    told = {row[0]: row[1] for row in ROWS if len(row) == 2}
    for option, reason in TABLE.unsupported.items():
        root, dot, argument = option.partition(".")
        assert told.get(f"`{argument}` in `{root}`" if dot else f"`{option}`") == reason
    harmless = {option: why for cells, why in told.items() for option in CODE.findall(cells)}
    assert {option: harmless.get(option) for option in TABLE.harmless} == TABLE.harmless
    assert TABLE.more["other_bases"].keys() <= harmless.keys()
