"""The dollhouse dataset on disk: drawn once per set of options and per version of the world, then reused."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lorasweep import files, paths
from lorasweep.dollhouse import world
from lorasweep.errors import DatasetError, Problem
from lorasweep.records import DollhouseOptions, digest


def draw_dataset(options: DollhouseOptions) -> Path:
    """Return the folder of the dataset under `cache/dollhouse/`, drawing it first when it is not there.

    Safe for several processes: it is drawn beside its place and renamed, and the first one wins.

    Raises:
        DatasetError: it cannot be written there.
    """
    folder = paths.cache() / "dollhouse" / digest([options, _world_version()])[:16]
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _draw(options, folder)
    except OSError as error:
        if not folder.is_dir():
            message = f"the dollhouse dataset cannot be written here: {error.strerror}"
            hint = "choose another place with LORASWEEP_HOME=/some/folder"
            raise DatasetError(Problem(str(folder.parent), message, hint)) from error
    return folder


def _draw(options: DollhouseOptions, folder: Path) -> None:
    files.write_folder(
        folder,
        lambda draft: world.write_dataset(
            draft,
            subject=options.subject,
            images=options.images,
            outfits=options.outfits,
            confound=options.confound,
            seed=options.seed,
            captions=options.captions,
        ),
    )


def subject_problems(options: DollhouseOptions) -> list[Problem]:
    """Find what cannot be drawn."""
    if options.subject not in world.SUBJECTS:
        known = ", ".join(world.SUBJECTS)
        return [Problem("dataset.dollhouse.subject", f"must be one of {known}, got {options.subject!r}")]
    wardrobe = len(world.SUBJECTS[options.subject].wardrobe)
    if options.outfits > wardrobe:
        message = f"{options.subject} has {wardrobe} outfits, got {options.outfits}"
        return [Problem("dataset.dollhouse.outfits", message)]
    if options.images < options.outfits:
        message = f"must be at least dataset.dollhouse.outfits ({options.outfits}), got {options.images}"
        return [Problem("dataset.dollhouse.images", message)]
    return []


def _world_version() -> str:
    """Digest of the world's own code: another way of drawing is another dataset."""
    content = hashlib.sha256()
    for file in sorted(Path(world.__file__).parent.glob("*.py")):
        content.update(file.read_bytes())
    return content.hexdigest()
