"""kohya's images, captions and buckets: one folder, one caption policy, one set of buckets.

A dataset file may name several folders, each with its own options; a recipe has one root whose subfolders say
their repeats (`10_zkw`). Folders that do not lie so can be linked into one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasweep.buckets.kohya import resolutions
from lorasweep.import_kohya.draft import Draft
from lorasweep.import_kohya.options import DEFAULTS
from lorasweep.import_kohya.toml_files import Given

TO_BE_GIVEN = "???"
_SIDES_WRITTEN_FOR_PX = (
    512  # bucket sides in a recipe are written for this resolution and scale with the base
)
_PER_IMAGE = ("image_dir", "num_repeats", "class_tokens", "is_reg", "custom_attributes")


@dataclass(frozen=True)
class Link:
    """A folder of images under the name that says its repeats.

    Attributes:
        name: `10_zkw outfit1`.
        target: where the images are.
    """

    name: str
    target: Path


def effective(given: Given) -> dict[str, Any]:
    """All options in one dict, as they hold for the first subset that is trained on."""
    train = train_subsets(given)
    dataset = given.datasets[0] if given.datasets else {}
    options = {**given.training, **dataset, **(train[0] if train else {})}
    options.pop("is_reg", None)
    return options


def train_subsets(given: Given) -> list[dict[str, Any]]:
    """The subsets that are trained on, without those of regularization images."""
    return [subset for subset in given.subsets if not subset.get("is_reg")]


def translate_images(draft: Draft, given: Given, *, link_into: Path | None) -> list[Link]:
    """Decide dataset and captions.

    Args:
        draft: gets the keys.
        given: the files.
        link_into: a folder for links, when several subsets do not lie in one.

    Returns:
        The links that the recipe needs in `link_into`.
    """
    draft.see("dataset_config")
    links = _folders(draft, train_subsets(given), link_into)
    for number, dataset in enumerate(given.datasets[1:], start=2):
        draft.leave(f"datasets[{number}]", dataset, "one dataset, at one resolution: the first is taken")
    _held_out(draft)
    _captions(draft)
    return links


def _folders(draft: Draft, subsets: Sequence[Mapping[str, Any]], link_into: Path | None) -> list[Link]:
    draft.put("dataset", "folder", "image_dir" if subsets else "train_data_dir", given=True)
    root = draft.take("train_data_dir", str)
    for option in ("image_dir", "num_repeats", "dataset_repeats"):
        draft.see(option)
    if not subsets:
        draft.put("dataset.path", root or TO_BE_GIVEN, "train_data_dir")
        if not root:
            draft.leave("train_data_dir", None, "no images are named: give dataset.path=some/folder")
        return []
    if root:
        draft.differ("train_data_dir", root, "the dataset file takes its place, as in sd-scripts")
    _same_for_all(draft, subsets)
    if len(subsets) == 1:
        draft.put("dataset.path", subsets[0].get("image_dir", TO_BE_GIVEN), "image_dir")
        draft.put("dataset.repeats", _repeats(draft, subsets[0]), "num_repeats")
        return []
    if parent := _common_parent(draft, subsets):
        draft.put("dataset.path", str(parent), "image_dir")
        return []
    if link_into is not None:
        draft.put("dataset.path", str(link_into), "image_dir")
        return _links(draft, subsets)
    draft.put("dataset.path", TO_BE_GIVEN, "image_dir")
    reason = "a recipe has one folder: --link FOLDER makes one with links that say the repeats, `10_zkw`"
    draft.leave("image_dir", [str(subset.get("image_dir")) for subset in subsets], reason)
    return []


def _repeats(draft: Draft, subset: Mapping[str, Any]) -> int:
    value = subset.get("num_repeats", draft.options.get("dataset_repeats", DEFAULTS["num_repeats"]))
    return value if isinstance(value, int) else 1


def _common_parent(draft: Draft, subsets: Sequence[Mapping[str, Any]]) -> Path | None:
    """The folder whose `10_name` folders are just these subsets, their numbers being the repeats."""
    folders = [Path(str(subset.get("image_dir"))) for subset in subsets]
    said = [re.match(r"(\d+)_.", folder.name) for folder in folders]
    repeats = [_repeats(draft, subset) for subset in subsets]
    if len({folder.parent for folder in folders}) > 1 or not all(
        match and int(match[1]) == times for match, times in zip(said, repeats, strict=True)
    ):
        return None
    parent = folders[0].parent
    others = {item.name for item in parent.iterdir() if item.is_dir()} if parent.is_dir() else set()
    unnamed = {name for name in others if re.match(r"\d+_.", name)} - {folder.name for folder in folders}
    return None if unnamed else parent


def _links(draft: Draft, subsets: Sequence[Mapping[str, Any]]) -> list[Link]:
    links: list[Link] = []
    for subset in subsets:
        target = Path(str(subset.get("image_dir"))).expanduser()
        words = str(subset.get("class_tokens") or re.sub(r"^\d+_", "", target.name)).replace("/", " ")
        name = f"{_repeats(draft, subset)}_{words}"
        same = sum(link.name.split(" (")[0] == name for link in links)
        links.append(Link(f"{name} ({same + 1})" if same else name, target.absolute()))
    return links


def _same_for_all(draft: Draft, subsets: Sequence[Mapping[str, Any]]) -> None:
    for option in dict.fromkeys(key for subset in subsets for key in subset if key not in _PER_IMAGE):
        values = [subset.get(option, DEFAULTS.get(option)) for subset in subsets]
        if any(value != values[0] for value in values):
            draft.leave(f"subsets.{option}", values, "one value for all images: the first subset's is taken")


def _held_out(draft: Draft) -> None:
    share = draft.take("validation_split", float)
    if share > 0.5:
        draft.leave("validation_split", share, "at most half of the images are held out: 0.5 is taken")
    draft.put("dataset.holdout", min(share, 0.5), "validation_split")
    if draft.given("validation_seed"):
        draft.put("dataset.holdout_seed", draft.take("validation_seed", int), "validation_seed")
    if share:
        reason = "ours is another draw, near-duplicates together, and judges at every rung"
        draft.differ("validation_split", share, reason)
    else:
        reason = "nothing is held back, as there; dataset.holdout=0.2 lets lorasweep judge on unseen images"
        draft.differ("validation_split", None, reason)


def _captions(draft: Draft) -> None:
    _trigger(draft)
    extension = draft.take("caption_extension", str)
    if draft.given("caption_extention"):  # sd-scripts reads its old misspelling too
        draft.put("captions.extension", draft.take("caption_extention", str), "caption_extention")
    else:
        draft.put("captions.extension", extension, "caption_extension")
    separator = draft.take("caption_separator", str)
    spaced = f"{separator} " if separator == separator.strip() else separator
    draft.put("captions.separator", spaced, "caption_separator")
    draft.put("captions.shuffle", draft.take("shuffle_caption", bool), "shuffle_caption")
    draft.put("captions.keep_tokens", draft.take("keep_tokens", int), "keep_tokens")
    draft.put("captions.dropout", draft.take("caption_dropout_rate", float), "caption_dropout_rate")
    draft.put(
        "captions.tag_dropout", draft.take("caption_tag_dropout_rate", float), "caption_tag_dropout_rate"
    )


def _trigger(draft: Draft) -> None:
    """Neither of kohya's two is quite a trigger: one is for images without captions, one for all."""
    tokens, prefix = draft.take("class_tokens", str), draft.take("caption_prefix", str)
    word = (prefix or "").strip(" ,")
    if word and "," not in word:
        draft.put("captions.trigger", word, "caption_prefix")
        draft.differ("caption_prefix", prefix, "ours is added only where a caption lacks it")
    elif prefix:
        draft.leave("caption_prefix", prefix, "one trigger, not several tags, can be put in front")
    if tokens and "captions.trigger" not in draft.lines:
        draft.put("captions.trigger", tokens, "class_tokens")
        reason = "sd-scripts reads it for images without a caption only; ours goes in front of every caption"
        draft.differ("class_tokens", tokens, reason + " that lacks it")


def translate_buckets(draft: Draft) -> None:
    """Decide the base's resolution and step, and the buckets."""
    width, height = _resolution(draft)
    has_buckets, step = draft.take("enable_bucket", bool), draft.take("bucket_reso_steps", int)
    low, high = draft.take("min_bucket_reso", int), draft.take("max_bucket_reso", int)
    upscale = not draft.take("bucket_no_upscale", bool)
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
        draft.leave(
            "bucket_no_upscale", True, "without enlarging, the area must be a square's, e.g. 512 x 512"
        )
    else:
        draft.put("buckets.upscale", upscale or not has_buckets, "bucket_no_upscale")


def _resolution(draft: Draft) -> tuple[int, int]:
    draft.see("resolution")
    value = draft.options.get("resolution")
    if value is None:
        draft.leave("resolution", None, "is not given, and sd-scripts needs it: 512 is taken")
        return 512, 512
    parts = value if isinstance(value, list) else str(value).strip("()[]").split(",")
    sides = [int(part) if str(part).strip().isdigit() else 0 for part in parts]
    if len(sides) not in (1, 2) or min(sides) < 1:
        draft.leave("resolution", value, "must be one side, or width,height: 512 is taken")
        return 512, 512
    return sides[0], sides[-1]
