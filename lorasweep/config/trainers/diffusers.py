"""The command that starts one of diffusers' example scripts, `train_dreambooth_lora_sdxl.py` and its like."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorasweep.config.importing import command_line, images
from lorasweep.config.importing.draft import Draft, read_table
from lorasweep.config.importing.finish import Link
from lorasweep.config.importing.images import Given
from lorasweep.config.importing.parts import put_base, put_dropout, put_optimizer, put_rank, put_seed
from lorasweep.config.importing.pictures import PROMPT, put_pictures
from lorasweep.config.yaml_file import read_text

TABLE = read_table(Path(__file__).with_suffix(".yaml"))
MARK = "train_*.py"
_FOLDER = "instance_data_dir"
_TARGETS = {"flux1_dev": "attn-mlp", "flux2_klein": "full", "krea2": "full"}  # where it is not attention alone
_SHIFTS = {"qwen_image": 3.0, "z_image": 3.0}  # of schedulers that shift by the size, no shift is left in training


def find(path: Path) -> dict[str, Any] | None:
    """Read the command in a file; None where there is none, or JSON. Raises ConfigError, as `command_line.read`."""
    known = {*TABLE.translated, *TABLE.unsupported, *TABLE.harmless}
    text = read_text(path, subject="the trainer's config")
    if text.lstrip().startswith("{"):  # a notebook's lines, each in quotes
        return None
    found = command_line.read(path, text, r"train_(dreambooth|text_to_image)_lora\w*", known)
    return found and {**found[2], **found[1], MARK: found[0]}


def read(content: Mapping[str, Any], config: Path, dataset: Path | None) -> Given:
    """Return the options, with the defaults of that script, and the folders of images."""
    options = dict(content)
    defaults = TABLE.more["defaults"].get(str(options[MARK]), {})
    rows = {name: replace(TABLE.translated[name], default=default) for name, default in defaults.items()}
    is_local = os.path.isdir(str(options.get("dataset_name")))  # else it is a name on the hub
    named = ("train_data_dir", "dataset_name") if is_local else ("train_data_dir",)
    other = next((name for name in named if options.get(name)), None)
    folder = options.pop(other) if other else options.get(_FOLDER)
    return Given(
        {**options, _FOLDER: folder},
        trained=[{_FOLDER: folder, "repeats": options.get("repeats")}],
        regularization=[{_FOLDER: options.get("class_data_dir")}] if options.get("with_prior_preservation") else [],
        names={_FOLDER: other} if other else {},
        pictures=[{PROMPT: options["validation_prompt"]}] if options.get("validation_prompt") else [],
        table=replace(TABLE, translated={**TABLE.translated, **rows}),
    )


def translate(draft: Draft, given: Given, *, link_into: Path | None) -> list[Link]:
    """Decide all keys that are not one option each."""
    base = put_base(draft, kind=MARK, path="pretrained_model_name_or_path")
    images.put_resolution(draft, "resolution")
    links = images.put_datasets(draft, given, with_prior=False, link_into=link_into)
    if draft.take("with_prior_preservation") and given.regularization:
        draft.put("regularization", ["reg_images"], "with_prior_preservation")
        path = draft.lines["regularization.reg_images.path"].value
        draft.put("regularization.reg_images.path", path, "class_data_dir")
    draft.ignore("class_data_dir", "with_prior_preservation is not given")
    images.put_buckets(draft, "center_crop", on=False)
    if not draft.take("center_crop"):
        draft.differ("center_crop", "crops are centred here; there they move unless it is given")
    draft.put("captions.extension", ".txt", "caption_column")
    if prompt := draft.take("instance_prompt"):
        draft.differ(
            "instance_prompt", "is the caption of every image there; here of those without one, and before all others"
        )
        draft.put("captions.trigger", prompt, "instance_prompt")
    _adapter(draft, base)
    _optimizer(draft)
    _budget(draft, has_brake=bool(given.regularization))
    if base not in images.PREDICT_NOISE:
        _levels(draft, base)
    if not draft.given("mixed_precision"):
        draft.differ("mixed_precision", "there accelerate's own counts where it is not given; fp32 is taken")
    put_pictures(draft, "validation_prompt", given.pictures)
    return links


def _adapter(draft: Draft, base: str) -> None:
    name = "dora" if draft.take("use_dora") else "lora"
    draft.put("adapter", name, "use_dora")
    put_rank(draft, "rank", "lora_alpha")
    reason = (
        "the first factor starts there with normal numbers of 1 / rank, which are far larger than ours at low ranks"
    )
    draft.differ("rank", f"{reason}: the same lr moves more there")
    draft.put("adapter.targets", _TARGETS.get(base, "attn"), "lora_layers")
    if base not in images.PREDICT_NOISE:
        draft.differ("lora_layers", "the script's own list of layers is not quite the same")
    put_dropout(draft, "lora_dropout", name, of_inputs=True)


def _optimizer(draft: Draft) -> None:
    name, option = draft.take("optimizer"), "optimizer"
    if draft.take("use_8bit_adam") and name.lower() == "adamw":
        name, option = "AdamW8bit", "use_8bit_adam"
    if draft.take("train_text_encoder") and (rate := draft.take("text_encoder_lr")):
        draft.options["text_encoder_lr"] = rate
    if put_optimizer(draft, name, option)[0] != "prodigy":
        draft.put("optimizer.eps", draft.take("adam_epsilon"), "adam_epsilon")
    draft.put("optimizer.betas", [draft.take("adam_beta1"), draft.take("adam_beta2")], "adam_beta1")
    draft.put("scheduler", schedule := draft.choose("lr_scheduler"), "lr_scheduler")
    if schedule == "cosine_with_restarts":
        draft.put("scheduler.num_cycles", draft.take("lr_num_cycles"), "lr_num_cycles")
    is_constant = str(draft.take("lr_scheduler")).strip().lower() == "constant"
    draft.put("scheduler.warmup", 0 if is_constant else draft.take("lr_warmup_steps"), "lr_warmup_steps")
    if is_constant:
        draft.ignore("lr_warmup_steps", "is no warm-up with lr_scheduler=constant")


def _budget(draft: Draft, *, has_brake: bool) -> None:
    steps = draft.take("max_train_steps")
    draft.put("train.max_steps", steps, "max_train_steps")
    if steps is None:
        draft.put("train.epochs", draft.take("num_train_epochs"), "num_train_epochs")
    draft.ignore("num_train_epochs", "max_train_steps is given")
    batch = draft.take("train_batch_size")
    draft.put("train.batch_size", 2 * batch if has_brake else batch, "train_batch_size")
    if has_brake:
        draft.differ(
            "train_batch_size", f"as many class images go beside there: {2 * batch} in all, with half the loss"
        )
        draft.differ("class_prompt", "is the class images' caption there; here, put them into a folder `1_a girl`")
    put_seed(draft)


def _levels(draft: Draft, base: str) -> None:
    levels = draft.choose("weighting_scheme")
    draft.put("noise.levels", levels, "weighting_scheme")
    draft.put("noise.shift", _SHIFTS.get(base, 1.0), "weighting_scheme", given=False)
    if levels == "logit_normal":
        draft.put("noise.mean", -draft.take("logit_mean"), "logit_mean")  # its levels are counted from pure noise
        draft.put("noise.std", draft.take("logit_std"), "logit_std")
    if base == "flux1_dev" and not draft.given("guidance_scale"):
        draft.differ("guidance_scale", "the transformer is told 1 in training; there 3.5, where it is not given")
