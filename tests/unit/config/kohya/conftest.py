from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorasweep.config.importing.finish import Imported
from lorasweep.config.trainers import import_config

Bring = Callable[[str], tuple[dict[str, Any], Imported]]


@pytest.fixture
def bring(tmp_path: Path) -> Bring:
    """Import the text of a training TOML; returns the recipe's values by key, and everything."""

    def run(text: str) -> tuple[dict[str, Any], Imported]:
        config = tmp_path / "config.toml"
        config.write_text(f'pretrained_model_name_or_path = "/models/sd15"\n{text}', encoding="utf-8")
        imported = import_config(config)
        return {key: line.value for key, line in imported.lines.items()}, imported

    return run
