"""The images that another trainer's config names: datasets, folders, sizes.

A recipe has one root, whose subfolders say their repeats (`10_zkw`). Folders that do not lie so can be linked into one.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from lorasweep.config.bind import TO_BE_GIVEN
from lorasweep.config.importing import document
from lorasweep.config.importing.draft import Draft, Note, Table, as_kind
from lorasweep.config.importing.finish import Link
from lorasweep.core import paths
from lorasweep.core.errors import ConfigError, Problem

Options = dict[str, Any]
PREDICT_NOISE = ("stable_diffusion", "sdxl")  # bases that do, or v; all others are trained with flow matching
_MOST_PX = 16384  # beyond any picture; buckets are counted up to it


@dataclass(frozen=True)
class Given:
    """What the files say."""

    options: Options  # by their dotted names, those of the first dataset that is trained on among them
    trained: list[Options] = field(default_factory=list)  # datasets, each with its options by their dotted names
    holdout: list[Options] = field(default_factory=list)  # datasets that are only looked at
    regularization: list[Options] = field(default_factory=list)  # datasets of another subject
    off: list[Options] = field(default_factory=list)  # datasets that are switched off
    untranslated: list[Note] = field(default_factory=list)  # what is known already to have no counterpart,
    left_out: list[Note] = field(default_factory=list)  # or to change nothing
    names: dict[str, str] = field(default_factory=dict)  # by the trainer's name of an option, the file's own
    pictures: list[Options] = field(default_factory=list)  # that it draws on the way, by its own names
    table: Table | None = None  # where the trainer's own is not that of its module


@dataclass(frozen=True)
class Folder:
    """One folder of images."""

    path: str  # as written, on whatever system
    repeats: int  # times that each image is seen in an epoch
    words: str | None = None  # for images without a caption; None where nothing says


def read_beside(config: Path, dataset: Path | None, named: Any) -> Any:
    """Read a file that a config names as data: the one that is given, or that name, in the working folder or beside it.

    None where nothing is given or named, or it is not here; raises ConfigError when the one that is given is not.
    """
    if dataset and not dataset.is_file():
        raise ConfigError(Problem(str(dataset), "no such file"), subject="the trainer's config")
    place = dataset or (beside(config, named) if isinstance(named, str) else None)
    return None if place is None else document.read_any(place)


def beside(config: Path, named: str) -> Path | None:
    """Find a file that a config names: in the working folder, or beside the config."""
    named = paths.as_here(named)
    places = (Path(named), config.parent / named, config.parent / Path(named).name)
    return next((place for place in places if os.path.isfile(place)), None)


def flatten(data: Any, at: str = "") -> Options:
    """Return options by their dotted names; lists stay whole."""
    if not isinstance(data, Mapping) or not data:
        return {at: data} if at else {}
    found: Options = {}
    for key, value in data.items():
        found |= flatten(value, f"{at}.{key}" if at else str(key))
    return found


def tables(value: Any) -> list[Mapping[str, Any]]:
    """Return the tables of a list; nothing where it is none."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def sort_datasets(
    options: Options,
    datasets: Sequence[Mapping[str, Any]],
    name: str,
    purpose: Callable[[Mapping[str, Any]], str | None],
) -> Given:
    """Put datasets under what they are for, the first one's options, with `name` before them, among the others.

    `purpose` says what one is for, if not to be trained on; "off" where it is switched off.
    """
    found: dict[str, list[Options]] = {"trained": [], "holdout": [], "regularization": [], "off": []}
    for dataset in datasets:
        found[purpose(dataset) or "trained"].append(flatten(dataset, name))
    first = next(iter(found["trained"]), {})
    trained, holdout, regularization, off = found.values()
    return Given({**options, **first}, trained, holdout, regularization, off)


def put_datasets(draft: Draft, given: Given, *, with_prior: bool, link_into: Path | None) -> list[Link]:
    """Decide what is trained on, what is kept to judge by, and what brakes; returns the links needed in `link_into`.

    The table's `datasets` name the options for a folder, its repeats, and the weight of a brake's loss. `with_prior`:
    the target of images that brake is the base's own answer.
    """
    names = draft.table.more["datasets"]
    option, repeats, weight = names["path"], names["repeats"], names.get("weight")
    draft.put("dataset", "folder", option, given=True)
    for each in given.off:
        reason = "is switched off, so that nothing looks at it there either"
        draft.left_out.append(Note(option, each.get(option), reason))
    _tell_differing(draft, given.trained, apart=(option, repeats))
    folders = [
        Folder(path, _repeats(draft, repeats, each.get(repeats)))
        for each in given.trained
        if (path := _path(draft, option, each.get(option)))
    ]
    links = []
    if folders:
        links = put_folders(draft, folders, option=option, repeats=repeats, link_into=link_into)
    else:
        draft.put("dataset.path", TO_BE_GIVEN, option)
        draft.leave(option, "no images are named: give dataset.path=some/folder")
    draft.put("dataset.holdout", 0.0, option, given=False)
    if held_out := _first_path(draft, option, given.holdout):
        draft.put("dataset.holdout_path", held_out, option)
    else:
        draft.differ(option, "nothing is held back, as there; dataset.holdout=0.2 judges on unseen images")
    if given.regularization:
        draft.put("regularization", ["reg_images", *(["prior_prediction"] if with_prior else [])], option, given=True)
        path = _first_path(draft, option, given.regularization) or TO_BE_GIVEN
        draft.put("regularization.reg_images.path", path, option)
        draft.put("regularization.reg_images.share", 1.0, option)
        draft.differ(option, "regularization images are repeated until they are as many as the others", path)
        if weight is not None:
            own = _alone(draft, weight, given.regularization[0].get(weight, draft.options.get(weight)))
            draft.put("regularization.reg_images.prior_loss_weight", own, weight)
    return links


def _tell_differing(draft: Draft, datasets: Sequence[Options], apart: Sequence[str]) -> None:
    for name in dict.fromkeys(key for each in datasets for key in each if key not in apart):
        values = [each.get(name) for each in datasets]
        matters = name in draft.table.translated or (draft.table.matters(name) or (True, ""))[0]
        if matters and any(value != values[0] for value in values):
            draft.differ(name, "one value for all images: the first dataset's is taken", values)


def _first_path(draft: Draft, option: str, datasets: Sequence[Options]) -> str | None:
    folders = [each.get(option) for each in datasets]
    if len(folders) > 1:
        draft.leave(option, "these images lie in one folder: the first is taken", folders)
    return _path(draft, option, folders[0]) if folders else None


def put_resolution(draft: Draft, option: str) -> None:
    """Decide the base's resolution: one side, or the largest of several; not of one that is not square."""
    value = draft.options.get(option) or draft.take(option)
    sides = read_sides(draft, option, value, least=8, by="[,x]")
    if len(sides) > 1:
        draft.leave(option, f"there is one resolution: {max(sides)} is taken", value)
    if sides:
        draft.put("base.resolution", max(sides), option)


def read_sides(draft: Draft, option: str, value: Any, *, least: int, by: str = ",") -> list[int]:
    """Read sides in px: one, or several, in a list or with what matches `by` between; [] where they are a problem."""
    parts = value if isinstance(value, list) else re.split(by, str(value).lower().strip(" ()[]"))
    try:
        sides = [as_kind(part, int) for part in parts]
    except (ValueError, TypeError, OverflowError):
        sides = []
    if sides and all(least <= side <= _MOST_PX for side in sides):
        return sides
    draft.problem(option, f"must be sides in px, {least} to {_MOST_PX}, got {value!r}")
    return []


def put_buckets(draft: Draft, option: str, *, on: bool) -> None:
    """Decide the buckets: kohya's stand in for the trainer's own list of aspects."""
    draft.put("buckets", "kohya" if on else "single", option)
    if not on and (side := draft.lines.get("base.resolution")):
        draft.put("base.bucket_step", math.gcd(64, side.value), side.option)
    if on:
        draft.differ(option, f"{draft.table.label} has its own list of aspects; kohya's buckets stand in for it")


def _alone(draft: Draft, option: str, value: Any) -> Any:
    """Return an option as it stands in a dataset of its own."""
    return Draft(draft.table, {option: value}, problems=draft.problems).take(option)


def _path(draft: Draft, option: str, value: Any) -> str | None:
    path: str | None = _alone(draft, option, value)
    return path


def _repeats(draft: Draft, option: str, value: Any) -> int:
    repeats = _alone(draft, option, value)
    nearest = max(1, round(repeats))
    if repeats != nearest:
        draft.leave(option, f"images are repeated a whole number of times: {nearest} is taken", repeats)
    return nearest


def put_folders(
    draft: Draft, folders: Sequence[Folder], *, option: str, repeats: str, link_into: Path | None
) -> list[Link]:
    """Decide `dataset.path` and, of a single folder, its repeats; returns the links that are needed in `link_into`.

    That is for several folders that do not lie in one, or for words.
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
    """Return the folder whose `10_name` folders are just these, their numbers being the repeats."""
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
    """Return the path by the rules of the system that it was written on."""
    return PureWindowsPath(path) if "\\" in path else PurePath(path)


def _links(folders: Sequence[Folder]) -> list[Link]:
    links: list[Link] = []
    for folder in folders:
        words = folder.words or re.sub(r"^\d+_", "", pure(folder.path).name)
        name = f"{folder.repeats}_{words.replace('/', ' ')}"
        same = sum(link.name.rpartition("/")[2].casefold() == name.casefold() for link in links)
        target = Path(os.path.expanduser(folder.path)).absolute()
        # In a folder of its own: ` (2)` behind the name would be words of a caption.
        links.append(Link(f"also {same + 1}/{name}" if same else name, target))
    return links
