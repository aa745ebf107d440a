"""kohya's images, captions and buckets: one folder, one caption policy, one set of buckets.

A dataset file may name several folders, each with its own options; a recipe has one root whose subfolders say
their repeats (`10_zkw`). Folders that do not lie so can be linked into one.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from lorasweep.components.buckets.kohya import resolutions
from lorasweep.config.kohya.draft import Draft, Note, as_kind
from lorasweep.config.kohya.options import DEFAULTS, MOST_PX
from lorasweep.config.kohya.toml_files import Given

TO_BE_GIVEN = "???"
_SIDES_WRITTEN_FOR_PX = 512  # bucket sides in a recipe are written for this resolution and scale with the base
_PER_FOLDER = ("image_dir", "num_repeats", "class_tokens", "is_reg")
_OTHER_NAMES = {"batch_size": "train_batch_size", "num_repeats": "dataset_repeats"}  # in the training options


@dataclass(frozen=True)
class Link:
    """A folder of images under the name that says its repeats.

    Attributes:
        name: `10_zkw outfit1`.
        target: where the images are.
    """

    name: str
    target: Path


def effective(given: Given) -> tuple[dict[str, Any], list[Note]]:
    """All options in one dict, as they hold for the first subset that is trained on, and what they hide."""
    train = [subset for subset in given.subsets if not is_regularization(subset)]
    dataset = given.datasets[0] if given.datasets else {}
    own = {**dataset, **(train[0] if train else {})}
    hidden = [
        Note(name, given.training[name], f"the dataset file's own {option} counts, as in sd-scripts")
        for option, value in own.items()
        for name in dict.fromkeys((option, _OTHER_NAMES.get(option, option)))
        if name in given.training and given.training[name] != value
    ]
    return {**given.training, **own}, hidden


def is_regularization(subset: Mapping[str, Any]) -> bool:
    """Whether a subset holds regularization images."""
    return str(subset.get("is_reg")).lower() in ("true", "1")


def translate_images(draft: Draft, given: Given, *, link_into: Path | None) -> list[Link]:
    """Decide dataset and captions.

    Args:
        draft: gets the keys.
        given: the files.
        link_into: a folder for links, when several subsets do not lie in one, or have class tokens.

    Returns:
        The links that the recipe needs in `link_into`.
    """
    draft.ignore("dataset_config", "was read too")
    train = _used(draft, [subset for subset in given.subsets if not is_regularization(subset)])
    links = _folders(draft, train, link_into)
    for number, dataset in enumerate(given.datasets[1:], start=2):
        draft.leave(f"datasets[{number}]", dataset, "one dataset, at one resolution: the first is taken")
    _held_out(draft)
    _class_tokens(draft, train, links)
    _trigger(draft)
    _captions(draft)
    return links


def _folders(draft: Draft, subsets: Sequence[Mapping[str, Any]], link_into: Path | None) -> list[Link]:
    draft.put("dataset", "folder", "image_dir" if subsets else "train_data_dir", given=True)
    root = draft.take("train_data_dir")
    if not subsets:
        draft.put("dataset.path", root or TO_BE_GIVEN, "train_data_dir")
        if not root:
            draft.leave("train_data_dir", None, "no images are named: give dataset.path=some/folder")
        draft.ignore("dataset_repeats", "the folders' names say the repeats, `10_zkw`")
        return []
    if root:
        draft.differ("train_data_dir", root, "the dataset file takes its place, as in sd-scripts")
    _same_for_all(draft, subsets)
    if len(subsets) == 1 and not (link_into and subsets[0]["class_tokens"]):
        draft.put("dataset.path", subsets[0]["image_dir"], "image_dir")
        draft.put("dataset.repeats", subsets[0]["num_repeats"], "num_repeats")
        draft.ignore("dataset_repeats", "num_repeats takes its place")
        return []
    draft.put("dataset.path", TO_BE_GIVEN, "image_dir")
    for option in ("num_repeats", "dataset_repeats"):
        draft.ignore(option, "the folders' names say the repeats, `10_zkw`")
    if len(subsets) > 1 and (parent := _common_parent(subsets)):
        draft.put("dataset.path", parent, "image_dir")
    elif link_into is not None:
        draft.put("dataset.path", str(link_into), "image_dir")
        return _links(subsets)
    else:
        reason = "a recipe has one folder: --link FOLDER makes one with links that say the repeats, `10_zkw`"
        draft.leave("image_dir", [subset["image_dir"] for subset in subsets], reason)
    return []


def _used(draft: Draft, subsets: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The subsets with folder, repeats and words checked, without those that sd-scripts skips."""
    used = []
    for number, subset in enumerate(subsets, start=1):
        one = Draft({"dataset_repeats": draft.options.get("dataset_repeats"), **subset}, problems=draft.problems)
        repeats = one.take("num_repeats" if one.given("num_repeats") else "dataset_repeats")
        folder = one.take("image_dir")
        if not one.given("image_dir"):
            draft.problem(f"subsets[{number}].image_dir", "must be a folder of images, is not given")
        if folder is None:
            continue
        if repeats < 1:
            draft.leave(f"subsets[{number}]", dict(subset), f"is skipped: it is repeated {repeats} times")
        else:
            known = {"image_dir": folder, "num_repeats": repeats, "class_tokens": one.take("class_tokens")}
            used.append({**subset, **known})
    return used


def _common_parent(subsets: Sequence[Mapping[str, Any]]) -> str | None:
    """The folder whose `10_name` folders are just these subsets, their numbers being the repeats."""
    folders = [_pure(subset["image_dir"]) for subset in subsets]
    said = [re.match(r"(\d{1,9})_.", folder.name) for folder in folders]
    is_one = len({folder.parent for folder in folders}) == 1 and len(set(folders)) == len(folders)
    if not is_one or not all(
        match and int(match[1]) == subset["num_repeats"] for match, subset in zip(said, subsets, strict=True)
    ):
        return None
    try:
        others = {item.name for item in Path(folders[0].parent).iterdir() if re.match(r"\d+_.", item.name)}
    except (OSError, ValueError):  # on another machine
        others = set()
    return None if others - {folder.name for folder in folders} else str(folders[0].parent)


def _pure(path: str) -> PurePath:
    """The path by the rules of the system that it was written on."""
    return PureWindowsPath(path) if "\\" in path else PurePath(path)


def on_disk(path: Path) -> bool:
    """Whether the folder is here; a name that no folder can have is not."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _links(subsets: Sequence[Mapping[str, Any]]) -> list[Link]:
    links: list[Link] = []
    for subset in subsets:
        folder = _pure(subset["image_dir"])
        words = (subset["class_tokens"] or re.sub(r"^\d+_", "", folder.name)).replace("/", " ")
        name = f"{subset['num_repeats']}_{words}"
        same = sum(link.name.split(" (")[0] == name for link in links)
        target = Path(os.path.expanduser(subset["image_dir"])).absolute()
        links.append(Link(f"{name} ({same + 1})" if same else name, target))
    return links


def _same_for_all(draft: Draft, subsets: Sequence[Mapping[str, Any]]) -> None:
    for option in dict.fromkeys(key for subset in subsets for key in subset if key not in _PER_FOLDER):
        values = [subset.get(option, DEFAULTS.get(option)) for subset in subsets]
        if any(value != values[0] for value in values):
            draft.leave(f"subsets.{option}", values, "one value for all images: the first subset's is taken")


def _held_out(draft: Draft) -> None:
    share = draft.take("validation_split")
    if share > 0.5:
        draft.leave("validation_split", share, "at most half of the images are held out: 0.5 is taken")
    draft.put("dataset.holdout", min(share, 0.5), "validation_split")
    if draft.given("validation_seed"):
        draft.put("dataset.holdout_seed", draft.take("validation_seed"), "validation_seed")
    if share:
        reason = "ours is another draw, near-duplicates together, and judges at every rung"
        draft.differ("validation_split", share, reason)
    else:
        reason = "nothing is held back, as there; dataset.holdout=0.2 lets lorasweep judge on unseen images"
        draft.differ("validation_split", None, reason)


def _captions(draft: Draft) -> None:
    if draft.given("caption_extention"):  # sd-scripts reads its old misspelling too
        draft.put("captions.extension", draft.take("caption_extention"), "caption_extention")
        draft.ignore("caption_extension", "caption_extention takes its place, as in sd-scripts")
    else:
        draft.put("captions.extension", draft.take("caption_extension"), "caption_extension")
    separator = draft.take("caption_separator")
    spaced = f"{separator} " if separator == separator.strip() else separator
    draft.put("captions.separator", spaced, "caption_separator")
    draft.put("captions.shuffle", draft.take("shuffle_caption"), "shuffle_caption")
    draft.put("captions.keep_tokens", draft.take("keep_tokens"), "keep_tokens")
    draft.put("captions.dropout", draft.take("caption_dropout_rate"), "caption_dropout_rate")
    draft.put("captions.tag_dropout", draft.take("caption_tag_dropout_rate"), "caption_tag_dropout_rate")


def _trigger(draft: Draft) -> None:
    """Decide the trigger: there is none in kohya; what it puts in front of every caption comes near."""
    prefix = draft.take("caption_prefix") or ""
    word = prefix.strip(" ,")
    if word and "," not in word:
        draft.put("captions.trigger", word, "caption_prefix")
        draft.differ("caption_prefix", prefix, "ours is added only where a caption lacks it")
    elif prefix:
        draft.leave("caption_prefix", prefix, "one trigger, not several tags, can be put in front")


def _class_tokens(draft: Draft, subsets: Sequence[Mapping[str, Any]], links: Sequence[Link]) -> None:
    """Tell of the caption of images that have none: a folder's name is that here, `10_zkw`; no trigger is."""
    words = [subset["class_tokens"] for subset in subsets] or [draft.take("class_tokens")]
    named = [_pure(subset["image_dir"]).name.endswith(f"_{subset['class_tokens']}") for subset in subsets]
    if links or (len(subsets) > 1 and all(named)):
        draft.ignore("class_tokens", "the folders are named by it, for images without a caption")
    elif any(words):
        reason = "is for images without a caption only: --link FOLDER names the folders by it, `10_zkw`"
        draft.leave("class_tokens", words if len(words) > 1 else words[0], reason)


def translate_buckets(draft: Draft) -> None:
    """Decide the base's resolution and step, and the buckets."""
    width, height = _resolution(draft)
    has_buckets, step = draft.take("enable_bucket"), draft.take("bucket_reso_steps")
    low, high = draft.take("min_bucket_reso"), draft.take("max_bucket_reso")
    upscale = not draft.take("bucket_no_upscale")
    is_square = width == height
    # Bucket sides scale with the base's resolution: for sides that are no square's, write them for 512.
    draft.put("base.resolution", width if is_square else _SIDES_WRITTEN_FOR_PX, "resolution")
    draft.put("base.bucket_step", step if has_buckets else math.gcd(64, width, height), "bucket_reso_steps")
    if has_buckets and is_square:
        draft.put("buckets", "kohya", "enable_bucket")
        draft.put("buckets.min_side", math.ceil(low * _SIDES_WRITTEN_FOR_PX / width), "min_bucket_reso")
        draft.put("buckets.max_side", math.floor(high * _SIDES_WRITTEN_FOR_PX / width), "max_bucket_reso")
    else:
        draft.put("buckets", "single", "enable_bucket")
        sizes = [[width, height]]
        if has_buckets:
            found = resolutions(width * height, low // step * step, -(-high // step) * step, step)
            sizes = [[bucket.width_px, bucket.height_px] for bucket in found]
        if not is_square:
            draft.put("buckets.sizes", sizes, "resolution")
            reason = "pictures are drawn at 512 x 512, unless sample.width and sample.height say otherwise"
            draft.differ("resolution", f"{width},{height}", reason)
    if has_buckets and not upscale and not is_square:
        draft.leave("bucket_no_upscale", True, "without enlarging, the area must be a square's, e.g. 512 x 512")
    else:
        draft.put("buckets.upscale", upscale or not has_buckets, "bucket_no_upscale")


def _resolution(draft: Draft) -> tuple[int, int]:
    """Width and height in px: one side, `width,height`, or a list of the two."""
    value = draft.options.get("resolution")
    if not draft.given("resolution"):
        draft.leave("resolution", None, "is not given, and sd-scripts needs it: 512 is taken")
        return 512, 512
    parts = value if isinstance(value, list) else str(value).strip(" ()[]").split(",")
    try:
        sides = [as_kind(part, int) for part in parts]
    except (ValueError, TypeError, OverflowError):
        sides = []
    if len(sides) not in (1, 2) or not all(1 <= side <= MOST_PX for side in sides):
        draft.problem("resolution", f"must be one side, or width,height, in px up to {MOST_PX}, got {value!r}")
        return 512, 512
    return sides[0], sides[-1]
