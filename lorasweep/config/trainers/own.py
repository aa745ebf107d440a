"""A LoRA that lorasweep exported: its header keeps the recipe, with files and folders by their names alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorasweep.config.bind import TO_BE_GIVEN
from lorasweep.config.importing.draft import Draft, Table
from lorasweep.config.importing.finish import Link
from lorasweep.config.importing.images import Given
from lorasweep.config.recipe_file import read_exported
from lorasweep.core.records import JUDGED_BY, MATERIAL
from lorasweep.data.tree import OWN_MASKS

RECIPE = "lorasweep.recipe"
TABLE = Table(trainer="lorasweep", label="lorasweep", translated={}, unsupported={}, off={}, harmless={}, more={})


def read(content: Mapping[str, Any], config: Path, dataset: Path | None) -> Given:
    """Return the recipe, one option."""
    return Given({RECIPE: {each.key: each.value for each in read_exported(config, content[RECIPE])}})


def translate(draft: Draft, given: Given, *, link_into: Path | None) -> list[Link]:
    """Take every key as it is; what it was made from and judged by is to be given."""
    for key, value in given.options[RECIPE].items():
        is_name = key in (*MATERIAL, *JUDGED_BY) and value not in OWN_MASKS
        draft.put(key, TO_BE_GIVEN if is_name else value, key if is_name else RECIPE, given=True)
        if is_name:
            draft.leave(key, f"of {value} the file keeps only this name", value)
    return []
