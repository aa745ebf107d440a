"""docs/flags.md against what `lorasweep import` does and what a recipe has: the table cannot rot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lorasweep.config.importing.draft import Table
from lorasweep.config.kohya.options import DEFAULTS, TABLE
from lorasweep.config.places import groups
from lorasweep.config.trainers import ai_toolkit, diffusers, one_trainer, simple_tuner

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "docs" / "flags.md").read_text(encoding="utf-8").splitlines()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in LINES if line.startswith("|")]
MAPPED = [row for row in ROWS if len(row) == 7 and row[0] not in ("kohya", "---")]
CODE = re.compile(r"`([^`]+)`")
COLUMNS = {1: one_trainer.TABLE, 2: ai_toolkit.TABLE, 3: simple_tuner.TABLE, 4: diffusers.TABLE}


def leaves(data: Any, at: str) -> Iterator[str]:
    yield at
    for key, inner in data.items() if isinstance(data, dict) else ():
        yield from leaves(inner, f"{at}.{key}")


def recipe_keys() -> set[str]:
    found = {"seed"}
    for group in groups():
        for file in (ROOT / "conf" / group).glob("*.yaml"):
            text = file.read_text(encoding="utf-8")
            package = re.match(r"# @package (\S+)", text)
            found |= {group, *leaves(yaml.safe_load(text), package[1] if package else group)}
    return found


def test_every_key_of_ours_in_the_table_is_in_a_recipe() -> None:
    known, named = recipe_keys(), {key for row in MAPPED for key in CODE.findall(row[5])}
    assert len(named) > 50
    for key in named:
        group, equals, choice = key.partition("=")
        assert group in known, key
        assert not equals or (ROOT / "conf" / group / f"{choice}.yaml").is_file(), key


@pytest.mark.parametrize("option", [name for name in TABLE.translated if "." not in name])
def test_what_is_translated_of_kohya_is_in_the_table(option: str) -> None:
    rows = [row for row in MAPPED if f"`{option}`" in row[0]]
    assert len(rows) == 1
    assert set(CODE.findall(rows[0][5])) == set(TABLE.translated[option].keys)
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


@pytest.mark.parametrize("column", COLUMNS)
def test_what_is_translated_of_other_trainers_is_in_their_column(column: int) -> None:
    table = COLUMNS[column]
    for option, row in table.translated.items():
        if row.keys:
            found = [cells for cells in MAPPED if f"`{option}`" in cells[column]]
            assert len(found) == 1, option
            assert {key.partition("=")[0] for key in CODE.findall(found[0][5])} & set(row.keys), option
            told = re.search(rf"`{re.escape(option)}` \[([^\]]*)\]", found[0][column])
            assert (told[1] if told else None) == default(table, option), option


def default(table: Table, option: str) -> str | None:
    value = table.translated[option].default
    if value is None or isinstance(value, bool):
        return {None: None, True: "on", False: "off"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("table", COLUMNS.values(), ids=lambda table: table.label)
def test_what_has_no_counterpart_is_told_of_every_trainer(table: Table) -> None:
    start = LINES.index(f"## {table.label}'s options without a counterpart") + 4
    told = {}
    for line in LINES[start:]:
        if not line.startswith("|"):
            break
        why, options = (cell.strip() for cell in line.strip("|").split("|"))
        told |= dict.fromkeys(CODE.findall(options), why)
    assert told == table.unsupported


@pytest.mark.parametrize("table", [TABLE, *COLUMNS.values()], ids=lambda table: table.label)
def test_an_option_is_in_one_place_of_a_table(table: Table) -> None:
    arguments = {option for option, row in table.translated.items() if row.kind is list}
    assert not table.translated.keys() & {*table.unsupported, *table.harmless} - arguments
    assert not set(table.unsupported) & set(table.harmless)
    assert table.off.keys() <= table.unsupported.keys()
