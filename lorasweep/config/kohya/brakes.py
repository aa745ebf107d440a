"""kohya's brakes on overcooking: the limit on weight norms, and regularization images."""

from __future__ import annotations

from lorasweep.config.kohya.draft import Draft, Note
from lorasweep.config.kohya.images import is_regularization
from lorasweep.config.kohya.toml_files import Given

_OF_THE_FOLDER = ("image_dir", "is_reg", "num_repeats", "class_tokens")


def translate_brakes(draft: Draft, given: Given) -> None:
    """Decide `regularization`: none, one or both."""
    limit, folder = draft.take("scale_weight_norms"), _reg_folder(draft, given)
    names = [name for name, on in (("scale_norm", limit), ("reg_images", folder)) if on]
    if names:
        option = "scale_weight_norms" if limit else "reg_data_dir"
        draft.put("regularization", names, option, given=True)
    if limit:
        draft.put("regularization.scale_norm.max_norm", limit, "scale_weight_norms")
    weight = draft.take("prior_loss_weight")
    if folder:
        draft.put("regularization.reg_images.path", folder, "reg_data_dir", given=True)
        draft.put("regularization.reg_images.prior_loss_weight", weight, "prior_loss_weight")
        draft.put("regularization.reg_images.share", 1.0, "reg_data_dir", given=True)
    else:
        draft.ignore("prior_loss_weight", "there are no regularization images")


def _reg_folder(draft: Draft, given: Given) -> str | None:
    """Where the regularization images are: a subset with `is_reg`, else `reg_data_dir`."""
    draft.take("is_reg")
    subsets = [subset for subset in given.subsets if is_regularization(subset)]
    if not given.subsets:
        path: str | None = draft.take("reg_data_dir")
        return path
    draft.ignore("reg_data_dir", "the dataset file takes its place, as in sd-scripts")
    if not subsets:
        return None
    folder: str | None = Draft(subsets[0], problems=draft.problems).take("image_dir")
    if folder is None:
        draft.problem("is_reg", "must have image_dir, a folder of regularization images")
    if len(subsets) > 1:
        folders = [subset.get("image_dir") for subset in subsets]
        draft.leave("is_reg", folders, "regularization images lie in one folder: the first is taken")
    for option, value in subsets[0].items():
        if option not in _OF_THE_FOLDER and value != draft.options.get(option):
            reason = "regularization images are treated as the images are"
            draft.leave(f"is_reg.{option}", value, reason)
    if words := subsets[0].get("class_tokens"):
        reason = f"is for those without a caption: put them into a folder `1_{words}` inside that folder"
        draft.differ("is_reg.class_tokens", words, reason)
    if subsets[0].get("num_repeats", 1) != 1:
        reason = "regularization images are repeated until they are as many as the others, there and here"
        draft.left_out.append(Note("is_reg.num_repeats", subsets[0]["num_repeats"], reason))
    return folder
