"""ai-toolkit's job, as YAML or JSON: its first process, and the datasets in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorasweep.config.importing import images
from lorasweep.config.importing.draft import Draft, read_table
from lorasweep.config.importing.finish import Link
from lorasweep.config.importing.images import Given
from lorasweep.config.importing.parts import (
    put_adapter,
    put_average,
    put_base,
    put_dropout,
    put_optimizer,
    put_rank,
    put_seed,
    put_whole,
)
from lorasweep.config.importing.pictures import PROMPT, SEED, put_pictures
from lorasweep.plan.learning_rate import finds_step_size

TABLE = read_table(Path(__file__).with_suffix(".yaml"))
_TRAINERS = ("sd_trainer", "diffusion_trainer", "ui_trainer")
_FLAGS = {"xl": "sdxl", "v2": "sd2", "v3": "sd3"}  # how the base was told before there was `arch`
_FINDS_ITS_STEP_AT = 0.1  # a lower rate of Prodigy's and D-Adaptation's becomes 1
_PICTURES = {
    **{"prompt": PROMPT, "seed": SEED, "neg": "base.negative_prompt", "sample_steps": "sample.steps"},
    **{"width": "sample.width", "height": "sample.height", "guidance_scale": "sample.guidance"},
}
_SCHEDULE = "train.lr_scheduler_params"
_STORAGE = {"qfloat8": "fp8", "float8": "fp8", "qint8": "int8", "int8": "int8"}


def read(content: Mapping[str, Any], config: Path, dataset: Path | None) -> Given:
    """Return the options of the first process, flat, and its datasets."""
    job = content.get("config")
    processes = images.tables(job.get("process")) if isinstance(job, Mapping) else []
    process = dict(processes[0]) if processes else {}
    datasets = [dict(each) for each in images.tables(process.pop("datasets", None))]
    options = images.flatten(process)
    for number, other in enumerate(processes[1:], start=2):
        options[f"process[{number}]"] = other.get("type")
    if not (arch := options.get("model.arch")):
        flags = [
            key.removeprefix("model.is_") for key in options if key.startswith("model.is_") and options[key] is True
        ]
        options["model.arch"] = next((_FLAGS.get(flag, flag) for flag in flags if flag != "v_pred"), None)
    elif isinstance(arch, str):
        options["model.arch"] = arch.partition(":")[0]
    pictures = _pictures(options)
    for each in datasets:
        each["folder_path"] = each.get("dataset_path") or each.get("folder_path")
    found = images.sort_datasets(
        options, datasets, "datasets", lambda each: "regularization" if each.get("is_reg") is True else None
    )
    return replace(found, pictures=pictures)


def _pictures(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Take what is drawn out of the options: each with what all of them share, and the trigger in its place."""
    listed = options.get("sample.samples") or options.get("sample.prompts")
    if not isinstance(listed, list) or not listed:
        return []
    shared = {key: options.pop(f"sample.{key}", None) for key in (*_PICTURES, "samples", "prompts")}
    pictures = [{**shared, **(each if isinstance(each, Mapping) else {"prompt": each})} for each in listed]
    if isinstance(word := options.get("trigger_word"), str):
        for each in pictures:
            each["prompt"] = str(each.get("prompt")).replace("[trigger]", word)
    return [{ours: each.get(theirs) for theirs, ours in _PICTURES.items()} for each in pictures]


def translate(draft: Draft, given: Given, *, link_into: Path | None) -> list[Link]:
    """Decide all keys that are not one option each."""
    if (kind := draft.options.get("type")) not in _TRAINERS:
        draft.problem("type", f"must be one of {', '.join(_TRAINERS)}, got {kind!r}", "only LoRAs are trained here")
    base = put_base(draft, kind="model.arch", path="model.name_or_path")
    put_adapter(draft, "model.assistant_lora_path")
    _storage(draft, base)
    links = _images(draft, given, link_into)
    _adapter(draft, base)
    _optimizer(draft)
    _range(draft)
    _levels(draft, base)
    _loss(draft)
    _budget(draft)
    put_seed(draft, "training_seed")
    average = "train.ema_config"
    if draft.take(f"{average}.use_ema"):
        put_average(draft, f"{average}.use_ema", f"{average}.ema_decay", warms_up=False)
    else:
        for option in ("use_feedback", "param_multiplier"):
            draft.ignore(f"{average}.{option}", "the weights are not averaged")
    put_pictures(draft, "sample.prompts", given.pictures)
    return links


def _storage(draft: Draft, base: str) -> None:
    """Decide how the frozen transformer is held; what predicts noise is held plain there."""
    if base != "flux1_dev":
        draft.ignore("train.bypass_guidance_embedding", "is of FLUX.1")
    if base in images.PREDICT_NOISE:
        for option in ("model.quantize", "model.qtype"):
            draft.ignore(option, "is not read with this base")
    elif draft.take("model.quantize"):
        if kind := _STORAGE.get(draft.take("model.qtype")):
            draft.put("memory.storage", kind, "model.qtype")
        else:
            draft.leave("model.qtype", "frozen weights are held plain, or in fp8, int8 or nf4: give memory.storage")


def _budget(draft: Draft) -> None:
    """Decide steps and batches of a step: one of two options makes `steps` count batches."""
    steps = draft.take("train.steps")
    option = draft.first("train.gradient_accumulation_steps", "train.gradient_accumulation")
    batches = draft.take(option)
    draft.put("train.gradient_accumulation", batches, option)
    if option.endswith("_steps") and batches > 1:
        reason = f"{batches} of its steps are one of the optimizer; the gradients of all {batches} count here"
        draft.differ(option, f"{reason}, there only the last one's, as it zeroes the others")
        steps = max(1, steps // batches)
        if warmup := draft.lines.get("scheduler.warmup"):
            draft.put("scheduler.warmup", warmup.value // batches, warmup.option)
    draft.put("train.max_steps", steps, "train.steps")


def _range(draft: Draft) -> None:
    """Turn the range round: they are places in a list of levels that begins with pure noise."""
    first, last = "train.min_denoising_steps", "train.max_denoising_steps"
    draft.put("noise.low", max(0.0, round(1 - (draft.take(last) + 1) / 1000, 6)), last)
    draft.put("noise.high", round(1 - draft.take(first) / 1000, 6), first)
    if draft.given(first) or draft.given(last):
        reason = "ai-toolkit counts them from pure noise, and so they are read; levels are squeezed in between, not cut"
        draft.differ(draft.first(last, first), reason)


def _levels(draft: Draft, base: str) -> None:
    """Take the levels of flow matching; on Stable Diffusion one is as likely as another."""
    asked = draft.take("train.timestep_type")
    if base in images.PREDICT_NOISE:
        if asked != "sigmoid":
            draft.leave("train.timestep_type", "one noise level is as likely as another on this base")
        return
    draft.put("noise.levels", draft.choose("train.timestep_type"), "train.timestep_type")
    if asked == "weighted":
        draft.differ("train.timestep_type", "there not all levels count the same, as here")
    if asked == "shift":
        draft.put("noise.shift", "dynamic", "train.timestep_type")


def _loss(draft: Draft) -> None:
    kind, option = draft.choose("train.loss_type"), "train.loss_type"
    draft.put("noise.loss_type", kind, option)
    if kind == "smooth_l1":
        draft.put("noise.huber_schedule", "constant", option)
        draft.put("noise.huber_c", 0.01, option)
        draft.differ(option, "ours is twice theirs: with train.max_grad_norm doubled, gradients are clipped alike")
    if kind != "l2" and draft.take("train.diff_output_preservation"):
        draft.differ(option, "what is preserved counts by its square there; here like the rest")


def _images(draft: Draft, given: Given, link_into: Path | None) -> list[Link]:
    with_prior = any(each.get("datasets.prior_reg") is True for each in given.regularization)
    links = images.put_datasets(draft, given, with_prior=with_prior, link_into=link_into)
    images.put_resolution(draft, "datasets.resolution")
    images.put_buckets(draft, "datasets.buckets", on=draft.take("datasets.buckets"))
    _masks(draft)
    if draft.take("train.diff_output_preservation"):
        _preserve(draft, is_alone=not given.regularization)
    draft.ignore("train.diff_output_preservation_class", "is told with diff_output_preservation, where that is on")
    extension = draft.take("datasets.caption_ext")
    draft.put("captions.extension", f".{extension.removeprefix('.')}", "datasets.caption_ext")
    option = draft.first("datasets.trigger_word", "trigger_word")
    if trigger := draft.take(option):
        draft.put("captions.trigger", trigger, option)
        draft.differ(option, "[trigger] in a caption is read as it is; ours is added where a caption lacks it")
        draft.ignore("trigger_word", "the dataset's own counts")
    _tags(draft, has_trigger=bool(trigger))
    return links


def _masks(draft: Draft) -> None:
    """Decide the masks; an alpha channel goes before a folder."""
    alpha, folder = draft.take("datasets.alpha_mask"), draft.take("datasets.mask_path")
    option = "datasets.alpha_mask" if alpha else "datasets.mask_path"
    if not (alpha or folder):
        return
    draft.put("dataset.masks", "alpha" if alpha else folder, option)
    draft.put("dataset.unmasked_weight", draft.take("datasets.mask_min_value"), "datasets.mask_min_value")
    draft.differ(option, "a mask's weights are divided by their mean there; here a small subject pulls less")
    if alpha:
        draft.ignore("datasets.mask_path", "alpha_mask takes its place")
    if draft.take("datasets.invert_mask"):
        draft.leave("datasets.invert_mask", "masks are white where the picture counts: invert the files")


def _tags(draft: Draft, *, has_trigger: bool) -> None:
    """Decide what moves and what is dropped; nothing of it where captions are encoded once."""
    shuffle, keep, share = "datasets.shuffle_tokens", "datasets.keep_tokens", "datasets.token_dropout_rate"
    shuffles, kept, dropped = draft.take(shuffle), draft.take(keep), draft.take(share)
    if draft.take("train.cache_text_embeddings") or draft.take("datasets.cache_text_embeddings"):
        for option in (option for option, on in ((shuffle, shuffles), (share, dropped)) if on):
            draft.differ(option, "captions are encoded once there, cache_text_embeddings: it does nothing")
        shuffles, dropped = False, 0.0
    if shuffles and kept:
        if not dropped:
            kept = 0
        draft.differ(keep, "keeps tags from token_dropout_rate alone there; shuffle_tokens moves all of them")
    draft.put("captions.shuffle", shuffles, shuffle)
    draft.put("captions.keep_tokens", kept, keep)
    draft.put("captions.tag_dropout", dropped, share)
    if has_trigger and draft.take("datasets.caption_dropout_rate"):
        draft.differ(
            "datasets.caption_dropout_rate", "the trigger stays there when a caption is dropped; here it goes too"
        )


def _preserve(draft: Draft, *, is_alone: bool) -> None:
    """Take differential output preservation: what the base says without the trigger is kept."""
    option, weight = "train.diff_output_preservation", "train.diff_output_preservation_multiplier"
    if not is_alone:
        draft.leave(option, "beside regularization images, give regularization=[reg_images,prior_prediction]")
        return
    draft.put("regularization", ["prior_prediction"], option)
    draft.put("regularization.prior_prediction.prior_loss_weight", draft.take(weight), weight)
    draft.differ(option, "ours takes the trigger out of the caption; there a class stands in its place")


def _adapter(draft: Draft, base: str) -> None:
    name = draft.choose("network.type")
    conv = draft.take("network.conv")
    if base not in images.PREDICT_NOISE:
        conv = None
        for option in ("network.conv", "network.conv_alpha"):
            draft.ignore(option, "there are no convolutions in the blocks of this base")
    name = "locon" if name == "lora" and conv else name
    draft.put("adapter", name, "network.type")
    dim = draft.first("network.rank", "network.linear")
    put_rank(draft, dim, draft.first("network.linear_alpha", "network.alpha"))
    if name == "locon":
        draft.put("adapter.conv_dim", conv or draft.take(dim), "network.conv")
        conv_alpha = draft.take("network.conv_alpha")
        draft.put("adapter.conv_alpha", conv_alpha or float(conv or draft.take(dim)), "network.conv_alpha")
    elif base in (*images.PREDICT_NOISE, "flux2_klein"):
        draft.put("adapter.targets", "attn-mlp", "network.type")
    else:
        draft.put("adapter.targets", "full", "network.type")
        draft.differ("network.type", "ai-toolkit takes every layer of the main blocks; ours of refiners too")
    if name == "lokr" and draft.take("network.lokr_full_rank"):
        put_whole(draft, "network.lokr_full_rank", dim, "network.linear_alpha", "network.alpha")
    put_dropout(draft, "network.dropout", name)


def _optimizer(draft: Draft) -> None:
    name, _ = put_optimizer(draft)
    rate = draft.lines.get("optimizer.lr")
    if finds_step_size(name) and rate and rate.value < _FINDS_ITS_STEP_AT:
        draft.put("optimizer.lr", 1.0, rate.option)
        draft.differ(rate.option, f"ai-toolkit takes 1 where it is below {_FINDS_ITS_STEP_AT}, and so does this recipe")
    if str(draft.take("train.lr_scheduler")).lower() == "constant_with_warmup":
        steps = f"{_SCHEDULE}.num_warmup_steps"
        draft.put("scheduler.warmup", draft.take(steps), steps)
    for argument, value in draft.untaken(_SCHEDULE):
        draft.leave(argument, "this schedule has no such knob", value)
