"""Datasets of a person's own that have no fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CONCEPT = "10_zkw"


def doll(seed: int, size: tuple[int, int] = (96, 96)) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.NEAREST)


def tags(number: int) -> str:
    return f"zkw, 1girl, {'beach' if number % 2 else 'forest'}, {'hat' if number % 3 else 'coat'}"


def photos(root: Path, concept: str = CONCEPT, *, count: int = 5, caption: str = "zkw, tag{}") -> Path:
    """Write a dataset of pictures that differ; `{}` in their caption is the number of each."""
    folder = root / "photos" / concept
    folder.mkdir(parents=True)
    for number in range(count):
        doll(number, (64, 64)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption.replace("{}", str(number)), encoding="utf-8")
    return folder.parent


def make_clean(home: Path) -> Path:
    """Write a dataset without a fault: 12 images of one concept."""
    folder = home / "my set" / CONCEPT
    folder.mkdir(parents=True)
    for number in range(12):
        doll(number).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(tags(number))
    return folder.parent
