"""Folders of images: a recipe has one root, whose subfolders say their repeats (`10_zkw`).

Folders that do not lie so can be linked into one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath

from lorasweep.config.bind import TO_BE_GIVEN
from lorasweep.config.importing.draft import Draft
from lorasweep.config.importing.finish import Link


@dataclass(frozen=True)
class Folder:
    """One folder of images."""

    path: str  # as written, on whatever system
    repeats: int  # times that each image is seen in an epoch
    words: str | None = None  # for images without a caption; None where nothing says


def put_folders(
    draft: Draft, folders: Sequence[Folder], *, option: str, repeats: str, link_into: Path | None
) -> list[Link]:
    """Decide `dataset.path` and, of a single folder, its repeats.

    Args:
        draft: gets the keys.
        folders: at least one.
        option: names a folder.
        repeats: names its repeats.
        link_into: a folder for links, for several folders that do not lie in one, or for words.

    Returns:
        The links that the recipe needs in `link_into`.
    """
    if len(folders) == 1 and not (link_into and folders[0].words):
        draft.put("dataset.path", folders[0].path, option)
        draft.put("dataset.repeats", folders[0].repeats, repeats)
        return []
    if len(folders) > 1 and (parent := _common_parent(folders)):
        draft.put("dataset.path", parent, option)
        return []
    draft.put("dataset.path", str(link_into or TO_BE_GIVEN), option)
    if link_into:
        return _links(folders)
    reason = "a recipe has one folder: --link FOLDER makes one with links that say the repeats, `10_zkw`"
    draft.leave(option, reason, [folder.path for folder in folders])
    return []


def _common_parent(folders: Sequence[Folder]) -> str | None:
    """The folder whose `10_name` folders are just these, their numbers being the repeats."""
    places = [pure(folder.path) for folder in folders]
    parent, names = places[0].parent, {place.name for place in places}
    said = [re.match(r"(\d{1,9})_.", place.name) for place in places]
    as_named = all(match and int(match[1]) == each.repeats for match, each in zip(said, folders, strict=True))
    if not as_named or any(place.parent != parent for place in places) or len(names) < len(places):
        return None
    try:
        others = {item.name for item in Path(parent).iterdir() if re.match(r"\d+_.", item.name)}
    except (OSError, ValueError):  # on another machine
        others = set()
    return None if others - names else str(parent)


def pure(path: str) -> PurePath:
    """The path by the rules of the system that it was written on."""
    return PureWindowsPath(path) if "\\" in path else PurePath(path)


def _links(folders: Sequence[Folder]) -> list[Link]:
    links: list[Link] = []
    for folder in folders:
        words = folder.words or re.sub(r"^\d+_", "", pure(folder.path).name)
        name = f"{folder.repeats}_{words.replace('/', ' ')}"
        same = sum(link.name.split(" (")[0] == name for link in links)
        target = Path(os.path.expanduser(folder.path)).absolute()
        links.append(Link(f"{name} ({same + 1})" if same else name, target))
    return links
