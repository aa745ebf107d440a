"""kohya's brakes on overcooking: the limit on weight norms, and regularization images."""

from __future__ import annotations

from lorasweep.import_kohya.draft import Draft
from lorasweep.import_kohya.toml_files import Given


def translate_brakes(draft: Draft, given: Given) -> None:
    """Decide `regularization`: none, one or both."""
    limit, folder = draft.take("scale_weight_norms", float), _reg_folder(draft, given)
    names = [name for name, on in (("scale_norm", limit), ("reg_images", folder)) if on]
    if names:
        option = "scale_weight_norms" if limit else "reg_data_dir"
        draft.put("regularization", names, option, given=True)
    if limit:
        draft.put("regularization.scale_norm.max_norm", limit, "scale_weight_norms")
    weight = draft.take("prior_loss_weight", float)
    if folder:
        draft.put("regularization.reg_images.path", folder, "reg_data_dir", given=True)
        draft.put("regularization.reg_images.prior_loss_weight", weight, "prior_loss_weight")
        draft.put("regularization.reg_images.share", 1.0, "reg_data_dir", given=True)


def _reg_folder(draft: Draft, given: Given) -> str | None:
    """Where the regularization images are: a subset with `is_reg`, else `reg_data_dir`."""
    draft.see("is_reg")
    folders = [str(subset.get("image_dir")) for subset in given.subsets if subset.get("is_reg")]
    if len(folders) > 1:
        draft.leave("is_reg", folders, "regularization images lie in one folder: the first is taken")
    if folders:
        draft.ignore("reg_data_dir", "the dataset file takes its place, as in sd-scripts")
        return folders[0]
    path: str | None = draft.take("reg_data_dir", str)
    return None if given.subsets else path
