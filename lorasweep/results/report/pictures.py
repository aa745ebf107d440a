"""Which pictures a report shows, found through the indexes that sampling left, and written into the page.

    run folder  ->  Pictures by step, weight, place among the prompts  ->  data URIs

Needs Pillow, not torch. Knows nothing about the page around them.
"""

from __future__ import annotations

import base64
import functools
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lorasweep.core import files
from lorasweep.core.errors import DatasetError
from lorasweep.core.run_folder import BASE_SAMPLES, INDEX_FILE, RunFolder, steps_in
from lorasweep.data.images import open_rgb

SIDE_PX = 320  # larger pictures are scaled down to it
TIER_NAMES = {
    "in_distribution": "as trained",
    "recombined": "recombined",
    "class": "no trigger",
    "unrelated": "unrelated",
}
_LOSSLESS_TO_PX = 96  # small pictures are kept to the pixel

Key = tuple[str, int, int]  # tier, place within the tier, seed


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One sample on the disk."""

    file: Path
    tier: str
    place: int  # of the prompt among its tier's, from 0
    prompt: str
    seed: int
    weight: float
    step: int  # 0: the base

    @property
    def key(self) -> Key:
        """What makes two pictures comparable; not the prompt, which has another trigger in another arm."""
        return self.tier, self.place, self.seed

    def open(self) -> Image.Image | None:
        """Read it, RGB; None when it is gone or cannot be read, for the folder may be a stranger's."""
        try:
            return open_rgb(self.file)
        except DatasetError:
            return None


def of_run(run: RunFolder) -> list[Picture]:
    """All samples of a trial, rung by rung."""
    return [picture for step in steps_in(run.samples()) for picture in of_step(run, step)]


def of_step(run: RunFolder, step: int) -> list[Picture]:
    """A trial's samples at one step."""
    return _read(run.samples(step), step)


def of_kept(run: RunFolder) -> list[Picture]:
    """The samples of the checkpoint that a trial keeps; their step is 0."""
    return _read(run.samples(), 0)


def of_base(sweep_folder: Path) -> list[Picture]:
    """The base model's own samples, at the same seeds and at the prompts of one of the arms."""
    return _read(sweep_folder / BASE_SAMPLES, 0)


def first_seed(pictures: Iterable[Picture]) -> list[Picture]:
    """Those of the first seed that was drawn at every rung, in their order."""
    kept = list(pictures)
    first = min((picture.seed for picture in kept), default=0)
    return [picture for picture in kept if picture.seed == first]


@functools.lru_cache(maxsize=4096)
def data_uri(sample: Picture) -> str | None:
    """A picture as text; None when it is gone or cannot be read."""
    picture = sample.open()
    if picture is None:
        return None
    lossless = max(picture.size) <= _LOSSLESS_TO_PX
    picture.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, format="WEBP", lossless=lossless, quality=90, method=4)
    return "data:image/webp;base64," + base64.b64encode(written.getvalue()).decode()


def _read(folder: Path, step: int) -> list[Picture]:
    places: dict[str, dict[str, int]] = defaultdict(dict)  # tier -> prompt -> place
    try:
        rows: Sequence[dict[str, object]] = files.read_json(folder / INDEX_FILE)["images"]
        found = []
        for row in rows:
            file, tier, prompt = folder / str(row["file"]), str(row["tier"]), str(row["prompt"])
            picture = Picture(
                file=file,
                tier=tier,
                place=places[tier].setdefault(prompt, len(places[tier])),
                prompt=prompt,
                seed=int(str(row["seed"])),
                weight=float(str(row["weight"])),
                step=step,
            )
            found.append(picture)
    except (OSError, ValueError, KeyError, TypeError):
        return []
    # An index that came from somebody else may only name its own neighbours.
    inside = folder.resolve()
    return [picture for picture in found if picture.file.resolve().is_relative_to(inside)]
