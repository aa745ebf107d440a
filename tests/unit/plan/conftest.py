"""A recipe maker on a tiny base, and folders of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorasweep.config import compose_recipe
from lorasweep.core.records import Recipe

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def recipe_of(home: Path, tiny_sd: Path) -> MakeRecipe:
    """Compose a recipe whose base is a tiny pipeline on disk."""
    return lambda *overrides: compose_recipe([f"base.path={tiny_sd}"], overrides)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A kohya dataset: two outfits of one character, 6 + 4 different images of two shapes."""
    root = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for folder, count, words in (("3_zkw outfit1", 6, "hat"), ("2_zkw outfit2", 4, "coat")):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            shape = (96, 64, 3) if number % 3 == 0 else (64, 64, 3)
            path = root / folder / f"{number}.png"
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
            path.with_suffix(".txt").write_text(f"zkw, 1girl, {words}, tag{number}", encoding="utf-8")
    return root
