"""Other trainers' configs, as recipes."""

from __future__ import annotations

import os.path
from collections.abc import Sequence
from pathlib import Path

from lorasweep.config import trainers
from lorasweep.config.importing.finish import Imported, Link
from lorasweep.core import files, paths
from lorasweep.core.errors import ConfigError, Problem


def import_config(
    file: str | Path,
    dataset: str | Path | None = None,
    *,
    out: str | Path | None = None,
    link: str | Path | None = None,
) -> Imported:
    """Translate another trainer's config into a recipe, perhaps written to `out`; what could not come along is listed.

    `file` may be a LoRA, .safetensors, that keeps what sd-scripts, musubi-tuner, OneTrainer or lorasweep wrote of its
    training.
    `dataset` is the file that says where the images are, when apart; several folders of images become links in `link`.

    Raises:
        ConfigError: a file cannot be read, is none of those, or has values that make no sense, or a link cannot be
            made: all at once.
        InputError: something else lies at `out`.
    """
    images, target, place = (None if path is None else paths.typed(path) for path in (dataset, out, link))
    place = place and place.absolute()
    imported = trainers.import_config(paths.typed(file), images, link_into=place)
    text = imported.text()
    paths.require_replaceable(target, lambda there: there.read_bytes() == text.encode(), option="--out")
    if place is not None:
        _make_links(place, imported.links)
    if target is not None:
        files.write_text(target, text)
    return imported


def _make_links(folder: Path, links: Sequence[Link]) -> None:
    """Make a folder of links; one that is there already may only hold the same ones, or ConfigError is raised first."""
    problems = [
        Problem(str(link.target), "no such folder of images") for link in links if not os.path.isdir(link.target)
    ]
    try:
        for link in links:
            place = folder / link.name
            if (place.is_symlink() or place.exists()) and place.resolve() != link.target.resolve():
                hint = "choose another folder for --link"
                problems.append(Problem(str(place), "is in the way of a link", hint))
        if problems:
            raise ConfigError(problems, subject="the links")
        for link in links:
            place = folder / link.name
            if not place.is_symlink():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(link.target, target_is_directory=True)
    except OSError as error:  # a name that is too long, a disk that takes no links
        problem = Problem(str(folder), f"links cannot be made: {error}", "choose another folder for --link")
        raise ConfigError(problem, subject="the links") from error
