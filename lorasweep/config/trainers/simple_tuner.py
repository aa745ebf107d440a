"""SimpleTuner's JSON: its config, the dataloader's, and the LyCORIS config that it names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorasweep.config.bind import TO_BE_GIVEN
from lorasweep.config.importing import images
from lorasweep.config.importing.draft import Draft, read_table
from lorasweep.config.importing.finish import Link
from lorasweep.config.importing.images import Given
from lorasweep.config.importing.parts import (
    NOT_TRAINED_HERE,
    put_adapter,
    put_average,
    put_base,
    put_dropout,
    put_loss,
    put_optimizer,
    put_rank,
    put_seed,
    put_whole,
)
from lorasweep.config.importing.pictures import PROMPT, SEED, put_pictures

TABLE = read_table(Path(__file__).with_suffix(".yaml"))
_OF_IMAGES = (None, "image", "eval")
_PX = 1_000_000
_PROMPT, _LIBRARY = "validation_prompt", "user_prompt_library"
_PICTURES = {
    **{"seed": SEED, "negative_prompt": "base.negative_prompt"},
    **{"num_inference_steps": "sample.steps", "guidance": "sample.guidance"},
}
_LYCORIS = "config/lycoris_config.json"  # where nothing else is named
_BETAS = ("optimizer_beta1", "optimizer_beta2")
_OWN_BASES = {
    "flux": ("kontext",),
    "flux2": ("dev",),
    "qwen_image": ("edit",),
    "sdxl": ("refiner",),
}  # not trained here
_BESIDE_ADAPTER = {"z_image": "turbo-ostris-v2"}  # whose turbo flavours are trained so, with the flavour unless told
_NOT_WARMED_UP = (
    "constant",
    "cosine",
    "cosine_with_restarts",
    "sine",
)  # schedules that read the warm-up as another thing
_TARGETS = {frozenset({"Attention"}): "attn", frozenset({"Attention", "FeedForward"}): "attn-mlp"}


def read(content: Mapping[str, Any], config: Path, dataset: Path | None) -> Given:
    """Return the options, without the dashes of a command line, and the datasets of images."""
    options = {key.removeprefix("--"): value for key, value in content.items()}
    if options.get("lora_type") == "lycoris":
        named = options.get("lycoris_config", _LYCORIS)
        options |= images.flatten(images.read_beside(config, None, named) or {}, "lycoris")
    if all(options.get(name) is not None for name in _BETAS):
        options["optimizer_config.betas"] = [options.pop(name) for name in _BETAS]
    datasets = [
        {**each, "repeats": _seen(each.get("repeats"))}
        for each in images.tables(images.read_beside(config, dataset, options.get("data_backend_config")))
        if each.get("dataset_type") in _OF_IMAGES
    ]
    pictures = _pictures(options, images.read_beside(config, None, options.get(_LIBRARY)))
    return replace(images.sort_datasets(images.flatten(options), datasets, "datasets", _purpose), pictures=pictures)


def _pictures(options: dict[str, Any], library: Any) -> list[dict[str, Any]]:
    """Take what is drawn out of the options, each with what all of them share."""
    named = library.values() if isinstance(library, Mapping) else ()
    prompts = [options.get(_PROMPT), *(each.get("prompt") if isinstance(each, Mapping) else each for each in named)]
    if options.get("validation_disable") or not any(prompts):
        return []
    shared = {ours: options.pop(f"validation_{theirs}", None) for theirs, ours in _PICTURES.items()}
    sides = str(options.pop("validation_resolution", "")).split(",")[0].lower().split("x")
    for option in (_PROMPT, _LIBRARY):
        options.pop(option, None)
    return [{**shared, "sample.width": sides[0], "sample.height": sides[-1], PROMPT: each} for each in prompts if each]


def _purpose(dataset: Mapping[str, Any]) -> str | None:
    if dataset.get("disabled") or dataset.get("disable"):
        return "off"
    if dataset.get("dataset_type") == "eval":
        return "holdout"
    return "regularization" if dataset.get("is_regularisation_data") is True else None


def translate(draft: Draft, given: Given, *, link_into: Path | None) -> list[Link]:
    """Decide all keys that are not one option each."""
    if (kind := draft.options.get("model_type")) not in (None, "lora"):
        draft.problem("model_type", f"must be lora, got {kind!r}", "only LoRAs are trained here")
    base = put_base(draft, kind="model_family", path="pretrained_model_name_or_path")
    put_adapter(draft, "assistant_lora_path")
    _flavour(draft)
    held = draft.take("base_model_precision")
    if storage := next((kind for kind in ("fp8", "int8", "nf4") if held.startswith(kind)), None):
        draft.put("memory.storage", storage, "base_model_precision")
    elif held != "no_change":
        draft.leave("base_model_precision", "frozen weights are held plain, or in fp8, int8 or nf4")
    _resolution(draft)
    links = _images(draft, given, link_into)
    _adapter(draft)
    _optimizer(draft)
    _budget(draft)
    _levels(draft, base)
    if draft.take("offset_noise"):
        draft.put("noise.offset", draft.take("noise_offset"), "noise_offset")
        draft.differ(
            "noise_offset", "every step has it; there a quarter of them, unless noise_offset_probability says so"
        )
    draft.ignore("noise_offset", "offset_noise is not on")
    put_loss(draft)
    if share := draft.take("input_perturbation"):
        if draft.take("input_perturbation_steps"):
            draft.leave("input_perturbation", "fades in input_perturbation_steps there, and would stay here")
        else:
            draft.put("noise.input_perturbation", share, "input_perturbation")
    if draft.take("use_ema"):
        put_average(draft, "use_ema", "ema_decay", every="ema_update_interval")
        draft.differ("use_ema", "there the average is saved beside the weights that train; here it is what counts")
        if draft.take("ema_update_interval") > 1:
            draft.differ("ema_update_interval", "its warm-up counts averages there, here the steps between them too")
    else:
        draft.ignore("ema_warmup_steps", "the weights are not averaged")
    put_pictures(draft, _PROMPT, given.pictures)
    return links


def _flavour(draft: Draft) -> None:
    """Refuse weights of another base, and tell of those that are trained beside an adapter."""
    option, family = "model_flavour", str(draft.options.get("model_family")).lower()
    flavour = draft.take(option) or _BESIDE_ADAPTER.get(family, "")
    if flavour.startswith(_OWN_BASES.get(family, ())):
        draft.problem(option, f"is another base than the other weights of {family}, got {flavour!r}", NOT_TRAINED_HERE)
    is_beside = family in _BESIDE_ADAPTER and flavour.startswith("turbo") and not draft.take("disable_assistant_lora")
    if is_beside and "base.adapter" not in draft.lines:
        draft.put("base.adapter", TO_BE_GIVEN, option)
        draft.leave(
            option, "is trained beside an adapter, which is not downloaded: give base.adapter=its file", flavour
        )


def _resolution(draft: Draft) -> None:
    """Decide the resolution: the side of a square, or megapixels."""
    option, kind = (
        draft.first("datasets.resolution", "resolution"),
        draft.first("datasets.resolution_type", "resolution_type"),
    )
    value, unit = draft.take(option), draft.take(kind)
    side = round(math.sqrt(value * _PX) / 64) * 64 if unit == "area" else round(value)
    draft.put("base.resolution", side, option)
    if unit == "pixel":
        draft.differ(kind, "there the shorter side has this many px; here the area is that of a square")
    for other in ("resolution", "resolution_type"):
        draft.ignore(
            other, "the dataset's own counts" if option.startswith("datasets") else "says how resolution is counted"
        )


def _images(draft: Draft, given: Given, link_into: Path | None) -> list[Link]:
    draft.ignore("data_backend_config", "was read too" if given.trained else "is not here: give it with --dataset")
    links = images.put_datasets(draft, given, with_prior=True, link_into=link_into)
    if given.trained:
        draft.differ("datasets.repeats", "there 0 is once, ours is 1 for once")
    is_square = draft.take("datasets.crop") and draft.take("datasets.crop_aspect") == "square"
    images.put_buckets(draft, "datasets.crop_aspect", on=not is_square)
    draft.ignore("datasets.crop", "is read with crop_aspect")
    draft.ignore("datasets.dataset_type", "is of images")
    strategy = draft.first("datasets.caption_strategy", "caption_strategy")
    prompt = draft.first("datasets.instance_prompt", "instance_prompt")
    draft.put("captions.extension", ".txt", strategy)
    if (captions := draft.take(strategy)) != "textfile":
        reason = "captions are files beside the images; one without has its folder's name, 10_zkw"
        draft.leave(strategy, reason, captions)
    if captions == "instanceprompt" and (word := draft.take(prompt)) and "," not in word:
        draft.put("captions.trigger", word, prompt)
    draft.ignore(prompt, "is only read with caption_strategy=instanceprompt")
    return links


def _seen(repeats: Any) -> Any:
    """Return repeats counted from 1, not from 0 as there."""
    if repeats is None:
        return 1
    return repeats + 1 if isinstance(repeats, int) and not isinstance(repeats, bool) else repeats


def _adapter(draft: Draft) -> None:
    is_lycoris = draft.choose("lora_type") == "lycoris"
    if is_lycoris:
        draft.ignore("lora_type", "is LyCORIS: its own config says which network")
        found = any(option.startswith("lycoris.") for option in draft.options)
        if found:
            draft.ignore("lycoris_config", "was read too")
        else:
            draft.leave("lycoris_config", "is not here: only a LoRA stands in for its network")
        name, option = draft.choose("lycoris.algo"), "lycoris.algo"
    else:
        name, option = ("dora", "use_dora") if draft.take("use_dora") else ("lora", "lora_type")
    draft.put("adapter", name, option)
    if is_lycoris:
        put_rank(draft, "lycoris.linear_dim", "lycoris.linear_alpha")
        if name == "lokr" and draft.take("lycoris.full_matrix"):
            put_whole(draft, "lycoris.full_matrix", "lycoris.linear_dim", "lycoris.linear_alpha")
        _lycoris_targets(draft)
        for unused in ("lora_rank", "lora_alpha", "lora_dropout"):
            draft.ignore(unused, "LyCORIS has its own")
    else:
        put_rank(draft, "lora_rank", "lora_alpha")
        put_dropout(draft, "lora_dropout", name, of_inputs=True)
        draft.put("adapter.targets", "attn", option)
        if draft.lines["base"].value in ("flux1_dev", "chroma"):
            draft.put("adapter.targets", draft.choose("flux_lora_target"), "flux_lora_target")


def _lycoris_targets(draft: Draft) -> None:
    """Decide the modules by the classes that LyCORIS looks for: all of the blocks' when it is not told."""
    option = "lycoris.apply_preset.target_module"
    asked = draft.options.get(option)
    classes = frozenset(map(str, asked)) if isinstance(asked, list) else frozenset()
    draft.put("adapter.targets", _TARGETS.get(classes, "full"), option)
    if classes and classes not in _TARGETS:
        draft.leave(option, "the whole blocks stand in for these classes")


def _optimizer(draft: Draft) -> None:
    put_optimizer(draft)
    if not draft.given("grad_clip_method"):
        draft.differ(
            "max_grad_norm", "there every number is clipped to it, unless grad_clip_method=norm; ours the norm"
        )
    asked = str(draft.take("lr_scheduler")).lower()
    draft.put("scheduler", draft.choose("lr_scheduler"), "lr_scheduler")
    if asked == "polynomial":
        draft.differ("lr_scheduler", "there it falls with power lr_power [0.8] to lr_end; ours is a line to 0")
    steps, is_warmed_up = draft.take("lr_warmup_steps"), asked not in _NOT_WARMED_UP
    draft.put("scheduler.warmup", steps if is_warmed_up else 0, "lr_warmup_steps")
    if asked == "cosine":
        _wave(draft, steps or 1000)
    elif not is_warmed_up:
        draft.ignore("lr_warmup_steps", f"is no warm-up with lr_scheduler={asked}")


def _wave(draft: Draft, fall: int) -> None:
    """Translate a cosine that falls in so many steps and rises again in as many."""
    total, option = draft.take("max_train_steps"), "lr_warmup_steps"
    draft.put("scheduler.num_cycles", total / (2 * fall) if total else 0.5, option)
    draft.differ(option, f"is no warm-up there: the rate falls in {fall} steps, to lr_end, and rises again in as many")
    if not total:
        draft.leave(option, "the steps of this training follow from the images: give scheduler.num_cycles")


def _levels(draft: Draft, base: str) -> None:
    sigmoid, shift, by_size = "flow_sigmoid_scale", "flow_schedule_shift", "flow_schedule_auto_shift"
    if base in images.PREDICT_NOISE:
        for option in ("flow_use_uniform_schedule", sigmoid, shift, by_size):
            draft.ignore(option, "is of flow matching")
        return
    if draft.take("flow_use_uniform_schedule"):
        draft.put("noise.levels", "uniform", "flow_use_uniform_schedule")
        draft.ignore(sigmoid, "levels are uniform")
    else:
        draft.put("noise.levels", "logit_normal", sigmoid)
        draft.put("noise.std", draft.take(sigmoid), sigmoid)
    if draft.take(by_size):
        draft.put("noise.shift", "dynamic", by_size)
        draft.ignore(shift, f"levels shift with the size: {by_size}")
    else:
        draft.put("noise.shift", draft.take(shift) or 1.0, shift)


def _budget(draft: Draft) -> None:
    if draft.given("max_train_steps"):
        draft.put("train.max_steps", draft.take("max_train_steps"), "max_train_steps")
        draft.ignore("num_train_epochs", "max_train_steps is given")
    else:
        draft.put("train.max_steps", None, "max_train_steps")
        draft.put("train.epochs", draft.take("num_train_epochs"), "num_train_epochs")
    put_seed(draft)
