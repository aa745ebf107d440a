"""kohya's images and captions: a dataset file may name several folders, each with its own options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorasweep.config.bind import TO_BE_GIVEN
from lorasweep.config.importing.draft import Draft, Note
from lorasweep.config.importing.finish import Link
from lorasweep.config.importing.images import Folder, Given, pure, put_folders
from lorasweep.config.importing.parts import put_separator
from lorasweep.config.kohya.options import DEFAULTS

_PER_FOLDER = ("image_dir", "num_repeats", "class_tokens", "is_reg")
_SAID_BY_FOLDERS = "the folders' names say the repeats, `10_zkw`"
_OLD_SPELLING = "caption_extention"  # which sd-scripts reads too

Subset = Mapping[str, Any]


def translate_images(draft: Draft, given: Given, *, link_into: Path | None) -> list[Link]:
    """Decide dataset and captions; returns the links that are needed in `link_into`."""
    draft.ignore("dataset_config", "was read too")
    train = _used(draft, given.trained)
    links = _folders(draft, train, link_into)
    _held_out(draft)
    _masks(draft)
    _class_tokens(draft, train, links)
    _trigger(draft)
    extension = draft.first(_OLD_SPELLING, "caption_extension")
    draft.put("captions.extension", draft.take(extension), extension)
    if extension == _OLD_SPELLING:
        draft.ignore("caption_extension", f"{_OLD_SPELLING} takes its place, as in sd-scripts")
    put_separator(draft, "caption_separator")
    return links


def _folders(draft: Draft, subsets: Sequence[Subset], link_into: Path | None) -> list[Link]:
    draft.put("dataset", "folder", "image_dir" if subsets else "train_data_dir", given=True)
    root = draft.take("train_data_dir")
    if not subsets:
        draft.put("dataset.path", root or TO_BE_GIVEN, "train_data_dir")
        if not root:
            draft.leave("train_data_dir", "no images are named: give dataset.path=some/folder")
        draft.ignore("dataset_repeats", _SAID_BY_FOLDERS)
        return []
    if root:
        draft.differ("train_data_dir", "the dataset file takes its place, as in sd-scripts")
    for option in dict.fromkeys(key for subset in subsets for key in subset if key not in _PER_FOLDER):
        values = [subset.get(option, DEFAULTS.get(option)) for subset in subsets]
        if any(value != values[0] for value in values):
            draft.leave(f"subsets.{option}", "one value for all images: the first subset's is taken", values)
    folders = [Folder(each["image_dir"], each["num_repeats"], each["class_tokens"]) for each in subsets]
    is_single = len(folders) == 1 and not (link_into and folders[0].words)
    for option in ("num_repeats", "dataset_repeats") if not is_single else ():
        draft.ignore(option, _SAID_BY_FOLDERS)
    links = put_folders(draft, folders, option="image_dir", repeats="num_repeats", link_into=link_into)
    draft.ignore("dataset_repeats", "num_repeats takes its place")
    return links


def _used(draft: Draft, subsets: Sequence[Subset]) -> list[dict[str, Any]]:
    """Return the subsets with folder, repeats and words checked, without those that sd-scripts skips."""
    used = []
    for number, subset in enumerate(subsets, start=1):
        options = {"dataset_repeats": draft.options.get("dataset_repeats"), **subset}
        one = Draft(draft.table, options, problems=draft.problems)
        repeats = one.take(one.first("num_repeats", "dataset_repeats"))
        folder, words = one.take("image_dir"), one.take("class_tokens")
        if not one.given("image_dir"):
            draft.problem(f"subsets[{number}].image_dir", "must be a folder of images, is not given")
        if folder is not None and repeats < 1:
            draft.leave(f"subsets[{number}]", f"is skipped: it is repeated {repeats} times", dict(subset))
        elif folder is not None:
            used.append({**subset, "image_dir": folder, "num_repeats": repeats, "class_tokens": words})
    return used


def _held_out(draft: Draft) -> None:
    share = draft.take("validation_split")
    if share > 0.5:
        draft.leave("validation_split", "at most half of the images are held out: 0.5 is taken")
    draft.put("dataset.holdout", min(share, 0.5), "validation_split")
    if draft.given("validation_seed"):
        draft.put("dataset.holdout_seed", draft.take("validation_seed"), "validation_seed")
    if share:
        draft.differ("validation_split", "ours is another draw, near-duplicates together, and judges at every rung")
    else:
        reason = "nothing is held back, as there; dataset.holdout=0.2 lets lorasweep judge on unseen images"
        draft.differ("validation_split", reason)


def _masks(draft: Draft) -> None:
    """Decide the masks: a folder is one of masks with masked_loss alone; an alpha channel needs no more."""
    folder, alpha = draft.take("conditioning_data_dir"), draft.take("alpha_mask")
    if draft.take("masked_loss") and folder:
        draft.put("dataset.masks", folder, "conditioning_data_dir")
        draft.ignore("masked_loss", "goes with conditioning_data_dir")
        draft.ignore("alpha_mask", "conditioning_data_dir takes its place")
    elif folder:
        draft.leave("conditioning_data_dir", "there are no control images")
    if alpha and "dataset.masks" not in draft.lines:
        draft.put("dataset.masks", "alpha", "alpha_mask")
        draft.differ("alpha_mask", "what is transparent is white here, as without masks")
    draft.ignore("masked_loss", "does nothing without conditioning_data_dir, or beside alpha_mask")


def _trigger(draft: Draft) -> None:
    """Decide the trigger: there is none in kohya; what it puts in front of every caption comes near."""
    prefix = draft.take("caption_prefix") or ""
    word = prefix.strip(" ,")
    if word and "," not in word:
        draft.put("captions.trigger", word, "caption_prefix")
        draft.differ("caption_prefix", "ours is added only where a caption lacks it")
    elif prefix:
        draft.leave("caption_prefix", "one trigger, not several tags, can be put in front")


def _class_tokens(draft: Draft, subsets: Sequence[Subset], links: Sequence[Link]) -> None:
    """Tell of the caption of images that have none: a folder's name is that here, `10_zkw`; no trigger is."""
    words = [subset["class_tokens"] for subset in subsets] or [draft.take("class_tokens")]
    named = [pure(each["image_dir"]).name.lstrip("0123456789") == f"_{each['class_tokens']}" for each in subsets]
    if links or (named and all(named)):
        draft.ignore("class_tokens", "the folders are named by it, for images without a caption")
    elif any(words):
        reason = "is for images without a caption only: --link FOLDER names the folders by it, `10_zkw`"
        draft.leave("class_tokens", reason, words if len(words) > 1 else words[0])


def regularization_folder(draft: Draft, given: Given) -> str | None:
    """Find where the regularization images are: a subset with `is_reg`, else `reg_data_dir`."""
    draft.take("is_reg")
    subsets = given.regularization
    if not (given.trained or subsets):
        path: str | None = draft.take("reg_data_dir")
        return path
    draft.ignore("reg_data_dir", "the dataset file takes its place, as in sd-scripts")
    if not subsets:
        return None
    first = Draft(draft.table, dict(subsets[0]), problems=draft.problems)
    folder: str | None = first.take("image_dir")
    if folder is None:
        draft.problem("is_reg", "must have image_dir, a folder of regularization images")
    if len(subsets) > 1:
        folders = [subset.get("image_dir") for subset in subsets]
        draft.leave("is_reg", "regularization images lie in one folder: the first is taken", folders)
    for option, value in subsets[0].items():
        if option not in _PER_FOLDER and value != draft.options.get(option):
            draft.leave(f"is_reg.{option}", "regularization images are treated as the images are", value)
    if words := subsets[0].get("class_tokens"):
        reason = f"is for those without a caption: put them into a folder `1_{words}` inside that folder"
        draft.differ("is_reg.class_tokens", reason, words)
    if subsets[0].get("num_repeats", 1) != 1:
        reason = "regularization images are repeated until they are as many as the others, there and here"
        draft.left_out.append(Note("is_reg.num_repeats", subsets[0]["num_repeats"], reason))
    return folder
