"""kohya's base, budget and numerics: the options that have a counterpart each."""

from __future__ import annotations

import re
from pathlib import Path

from lorasweep.config.kohya.draft import Draft
from lorasweep.config.kohya.images import TO_BE_GIVEN, on_disk
from lorasweep.config.kohya.options import OTHER_BASES

_PRECISIONS = {"no": "fp32", "fp16": "fp16", "bf16": "bf16"}
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")


def translate_base(draft: Draft) -> None:
    """Decide which frozen model; nothing is downloaded, so a name on a hub is not a path."""
    draft.put("base", "stable_diffusion", "pretrained_model_name_or_path", given=True)
    path = draft.take("pretrained_model_name_or_path")
    usable = path
    if not path:
        usable = TO_BE_GIVEN
        draft.leave("pretrained_model_name_or_path", None, "no base is named: give base.path=some/folder")
    elif path.lower().endswith(_PICKLES):
        usable = TO_BE_GIVEN
        reason = "pickles can run code when opened: save it as .safetensors, and give base.path"
        draft.leave("pretrained_model_name_or_path", path, reason)
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", path) and not Path(path).suffix and not on_disk(Path(path)):
        usable = TO_BE_GIVEN
        reason = "nothing is downloaded: if that is a name on a hub, give base.path=the folder on your disk"
        draft.leave("pretrained_model_name_or_path", path, reason)
    draft.put("base.path", usable, "pretrained_model_name_or_path")
    draft.put("base.clip_skip", draft.take("clip_skip"), "clip_skip")
    if draft.take("v_parameterization"):
        draft.put("base.prediction_type", "v_prediction", "v_parameterization")
    draft.ignore("v_parameterization", "what the base predicts is read from its own files")
    for option, base in OTHER_BASES.items():
        if draft.given(option):
            what = f"is of a training of {base}, must be of Stable Diffusion 1.x or 2.x"
            draft.problem(option, what, "such a base cannot be trained here")


def planned_steps(draft: Draft) -> int | None:
    """Optimizer steps in all, when the files tell: epochs win, and are counted from the images."""
    if draft.given("max_train_epochs"):
        return None
    steps: int = draft.take("max_train_steps")
    return steps


def translate_budget(draft: Draft) -> None:
    """Decide steps, batches, loss, numerics and seed."""
    if draft.given("max_train_epochs"):
        draft.put("train.epochs", draft.take("max_train_epochs"), "max_train_epochs")
        draft.put("train.max_steps", None, "max_train_epochs")
        draft.ignore("max_train_steps", "max_train_epochs takes its place, as in sd-scripts")
    else:
        draft.put("train.max_steps", draft.take("max_train_steps"), "max_train_steps")
    batch = "batch_size" if draft.given("batch_size") else "train_batch_size"  # a dataset's own wins
    draft.put("train.batch_size", draft.take(batch), batch)
    accumulation = draft.take("gradient_accumulation_steps")
    draft.put("train.gradient_accumulation", accumulation, "gradient_accumulation_steps")
    draft.put("train.max_grad_norm", draft.take("max_grad_norm"), "max_grad_norm")
    draft.put("train.min_snr_gamma", draft.take("min_snr_gamma"), "min_snr_gamma")
    draft.put("train.noise_offset", draft.take("noise_offset"), "noise_offset")
    _precision(draft)
    if draft.given("seed"):
        draft.put("seed", draft.take("seed"), "seed")
    else:
        draft.differ("seed", None, "sd-scripts draws another each time; ours is 0 unless it is given")


def _precision(draft: Draft) -> None:
    asked = draft.take("mixed_precision")
    if asked not in _PRECISIONS:
        draft.problem("mixed_precision", f"must be one of {', '.join(_PRECISIONS)}, got {asked!r}")
    draft.put("train.precision", _PRECISIONS.get(asked, "fp32"), "mixed_precision")
    if asked in ("fp16", "bf16"):
        reason = "the frozen base is held in it, and adapters train in fp32; there, fp32 weights are autocast"
        draft.differ("mixed_precision", asked, reason)
