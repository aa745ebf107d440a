"""OneTrainer's JSON: its config, and the concepts in it or in a file of their own."""

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
    put_average,
    put_base,
    put_dropout,
    put_optimizer,
    put_rank,
    put_seed,
    put_separator,
    put_whole,
)
from lorasweep.config.importing.pictures import PROMPT, SEED, put_pictures
from lorasweep.data.tree import is_image

TABLE = read_table(Path(__file__).with_suffix(".yaml"))
CONCEPTS = "concepts"
_BETAS = ("optimizer.beta1", "optimizer.beta2", "optimizer.beta3")
_STORAGE = {"FLOAT_8": "fp8", "INT_8": "int8", "NFLOAT_4": "nf4", "FLOAT_W8A8": "fp8", "INT_W8A8": "int8"}
_PICTURES = {
    **{"prompt": PROMPT, "seed": SEED, "negative_prompt": "base.negative_prompt", "diffusion_steps": "sample.steps"},
    **{"width": "sample.width", "height": "sample.height", "cfg_scale": "sample.guidance"},
}
_STRATEGY, _SAMPLES = "concepts.balancing_strategy", "SAMPLES"  # what `balancing` counts, where not repeats
_OLDER = {"repeats": "balancing"}  # of a concept before version 1
_KINDS = {"VALIDATION": "holdout", "PRIOR_PREDICTION": "regularization"}


def read(content: Mapping[str, Any], config: Path, dataset: Path | None) -> Given:
    """Return the options, flat, and the concepts."""
    options = {key: value for key, value in content.items() if key != CONCEPTS}
    concepts = content.get(CONCEPTS)
    if not concepts:
        concepts = images.read_beside(config, dataset, content.get("concept_file_name"))
    if isinstance(options.get("optimizer"), str):  # before 2024: optimizer_beta1 beside it
        own = [key for key in options if key.startswith("optimizer_") and key != "optimizer_defaults"]
        name = options.pop("optimizer")
        options["optimizer"] = {"optimizer": name, **{key.removeprefix("optimizer_"): options.pop(key) for key in own}}
    flat = images.flatten(options)
    names = {new: old for old, new in TABLE.more["older"].items() if old in flat}
    flat |= {new: flat.pop(old) for new, old in names.items()}
    if flat.get("min_snr_gamma"):  # before version 3
        flat |= {"loss_weight_fn": "MIN_SNR_GAMMA", "loss_weight_strength": flat.pop("min_snr_gamma")}
        names["loss_weight_strength"] = "min_snr_gamma"
    _drop_unreached_ends(flat)
    given = [name for name in _BETAS if flat.get(name) is not None]
    if len(given) > 1:
        flat["optimizer.betas"] = [flat.pop(name) for name in given]
    for option in [option for option in flat if option.startswith("optimizer.") and flat[option] in (None, False, "")]:
        del flat[option]  # a file has the fields of all optimizers
    listed = flat.get("samples") or images.read_beside(config, None, flat.get("sample_definition_file_name"))
    pictures = [
        {ours: each.get(theirs) for theirs, ours in _PICTURES.items() if ours != SEED or not each.get("random_seed")}
        for each in images.tables(listed)
        if each.get("enabled") is not False
    ]
    if pictures:
        flat.pop("samples", None)
    repeated = [_repeated(each) for each in images.tables(concepts)]
    return replace(images.sort_datasets(flat, repeated, CONCEPTS, _purpose), pictures=pictures, names=names)


def _drop_unreached_ends(options: dict[str, Any]) -> None:
    """Drop the ends of training parts that are never reached, or that are not trained."""
    epochs = options.get("epochs", TABLE.translated["epochs"].default)
    for option in [option for option in options if option.endswith(".stop_training_after")]:
        part, after = option.rpartition(".")[0], options[option]
        unit = options.get(f"{part}.stop_training_after_unit")
        is_late = unit == "EPOCH" and all(isinstance(each, int) for each in (after, epochs)) and after >= epochs
        if unit == "NEVER" or is_late or options.get(f"{part}.train") is False:
            options[option] = None


def _repeated(concept: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return it with its samples of an epoch as repeats of the images that are there; with 1 where none are here."""
    concept = {_OLDER.get(key, key): value for key, value in concept.items()}
    if concept.get("validation_concept") is True:
        concept["type"] = "VALIDATION"
    samples, path = concept.get("balancing"), concept.get("path")
    if concept.get("balancing_strategy") != _SAMPLES or not isinstance(samples, int | float):
        return concept
    try:
        found = sum(map(is_image, Path(str(path)).expanduser().iterdir()))
    except OSError:  # on another machine
        found = 0
    return {**concept, "balancing": samples / found if found else 1, "balancing_strategy": found}


def _purpose(concept: Mapping[str, Any]) -> str | None:
    return "off" if concept.get("enabled") is False else _KINDS.get(str(concept.get("type")))


def translate(draft: Draft, given: Given, *, link_into: Path | None) -> list[Link]:
    """Decide all keys that are not one option each."""
    if (method := draft.options.get("training_method")) not in (None, "LORA"):
        draft.problem("training_method", f"must be LORA, got {method!r}", "only LoRAs are trained here")
    base = put_base(draft, kind="model_type", path="base_model_name")
    if base not in images.PREDICT_NOISE:
        _take_transformer(draft)
    _read_base(draft, base)
    links = _images(draft, given, link_into)
    _adapter(draft)
    _optimizer(draft)
    _noise(draft)
    _loss(draft)
    draft.put("train.max_steps", None, "epochs")
    put_seed(draft)
    if draft.choose("ema"):
        put_average(draft, "ema", "ema_decay", every="ema_update_step_interval")
    put_pictures(draft, "samples", given.pictures)
    return links


def _take_transformer(draft: Draft) -> None:
    """Read the options of the transformer, not those of a UNet that this base does not have."""
    for option in [option for option in draft.options if option.startswith("unet.")]:
        del draft.options[option]
    is_old = not any(option.startswith("transformer.") for option in draft.options)  # before version 9
    part = "prior." if is_old else "transformer."
    for option in [option for option in draft.options if option.startswith(part)]:
        renamed = f"unet.{option.removeprefix(part)}"
        draft.options[renamed] = draft.options.pop(option)
        draft.names[renamed] = option


def _read_base(draft: Draft, base: str) -> None:
    if draft.take("rescale_noise_scheduler_to_zero_terminal_snr"):
        draft.put("base.zero_terminal_snr", True, "rescale_noise_scheduler_to_zero_terminal_snr")
        draft.put("base.prediction_type", "v_prediction", "rescale_noise_scheduler_to_zero_terminal_snr")
    skipped = draft.take("text_encoder_layer_skip")
    if base == "sdxl":
        if skipped:
            draft.leave("text_encoder_layer_skip", "SDXL is always read at the last layer but one")
    else:
        draft.put("base.clip_skip", skipped + 1, "text_encoder_layer_skip")
    # Before version 10 one for all parts.
    if "weight_dtype" in draft.options and draft.options.get("unet.weight_dtype") in (None, "NONE"):
        draft.options["unet.weight_dtype"] = draft.options.pop("weight_dtype")
        draft.names["unet.weight_dtype"] = "weight_dtype"
    if (dtype := draft.take("unet.weight_dtype")) in _STORAGE:
        draft.put("memory.storage", _STORAGE[dtype], "unet.weight_dtype")
        if dtype.endswith("A8"):
            draft.differ("unet.weight_dtype", "what goes into a layer has 8 bits there too")
    elif dtype not in ("FLOAT_32", "FLOAT_16", "BFLOAT_16", "TFLOAT_32"):
        draft.leave("unet.weight_dtype", "frozen weights are held plain, or in fp8, int8 or nf4")
    images.put_resolution(draft, "resolution")
    images.put_buckets(draft, "aspect_ratio_bucketing", on=draft.take("aspect_ratio_bucketing"))


def _images(draft: Draft, given: Given, link_into: Path | None) -> list[Link]:
    draft.ignore("concept_file_name", "was read too" if given.trained else "is not here: give it with --dataset")
    links = images.put_datasets(draft, given, with_prior=True, link_into=link_into)
    counted = [each.get(_STRATEGY) for each in given.trained if isinstance(each.get(_STRATEGY), int)]
    if not all(counted):
        reason = "balancing counts samples of an epoch, and the images are not here: give dataset.repeats"
        draft.leave(_STRATEGY, reason, _SAMPLES)
    elif counted:
        draft.differ(_STRATEGY, "samples of an epoch are read as repeats of the images that are there", _SAMPLES)
    if given.trained and draft.take("concepts.loss_weight") != 1:
        draft.leave("concepts.loss_weight", "every image counts the same, but those of a brake")
    if draft.take("concepts.text.prompt_source") not in ("sample", ""):
        draft.leave("concepts.text.prompt_source", "captions are files beside the images")
    draft.put("captions.extension", ".txt", "concepts.text.prompt_source")
    put_separator(draft, "concepts.text.tag_delimiter")
    _tag_dropout(draft)
    _masks(draft)
    if draft.options.get("concepts.image.enable_crop_jitter", True):
        draft.differ("concepts.image.enable_crop_jitter", "crops are centred here; there they move unless it is off")
    return links


def _masks(draft: Draft) -> None:
    """Decide the masks, which lie beside the images."""
    if not draft.take("masked_training"):
        return
    draft.put("dataset.masks", "beside", "masked_training")
    draft.put("dataset.unmasked_weight", draft.take("unmasked_weight"), "unmasked_weight")
    reasons = {
        "unmasked_probability": "masks count in every step",
        "normalize_masked_area_loss": "the loss is not divided by a mask's mean: a small subject pulls less",
        "masked_prior_preservation_weight": "what a mask leaves out is not held at the base's answer",
    }
    for option, reason in reasons.items():
        if value := draft.take(option):
            draft.leave(option, reason, value)


def _tag_dropout(draft: Draft) -> None:
    """Decide the share of dropped tags: none where all of them go at once, as they do unless it is told."""
    option, kind = "concepts.text.tag_dropout_probability", "concepts.text.tag_dropout_mode"
    share = draft.take(option) if draft.take("concepts.text.tag_dropout_enable") else 0.0
    mode = draft.take(kind).upper()
    draft.put("captions.tag_dropout", 0.0 if mode == "FULL" else share, option)
    if share and mode == "FULL":
        draft.leave(
            kind, f"all tags but the kept ones go at once, in {share:g} of the draws: here each goes by itself", mode
        )
    elif share and mode != "RANDOM":
        draft.differ(kind, "there tags further back go more often", mode)


def _adapter(draft: Draft) -> None:
    name = draft.choose("peft_type")
    if name == "lora" and draft.take("lora_decompose"):
        name = "dora"
        draft.differ("lora_decompose", "ours has a magnitude per output, as the paper")
    draft.put("adapter", name, "lora_decompose" if name == "dora" else "peft_type")
    rank = "lokr_dim" if name == "lokr" else "lora_rank"
    put_rank(draft, rank, "lora_alpha")
    if name == "lokr" and draft.take("lokr_full_matrix"):
        put_whole(draft, "lokr_full_matrix", rank, "lora_alpha")
    draft.put("adapter.targets", draft.choose("layer_filter_preset"), "layer_filter_preset")
    if draft.lines["adapter.targets"].value == "full":
        draft.differ("layer_filter_preset", "their full takes every layer of the UNet; ours ends at the blocks")
    if draft.options.get("layer_filter_preset") in draft.table.translated["layer_filter_preset"].values:
        for option in ("layer_filter", "layer_filter_regex"):
            draft.ignore(option, "is what layer_filter_preset stands for")
    put_dropout(draft, "dropout_probability", name, of_inputs=name == "dora")


def _optimizer(draft: Draft) -> None:
    put_optimizer(draft)
    trains = draft.lines["adapter.text_encoder"].value
    if draft.lines["base"].value == "sdxl" and draft.take("text_encoder_2.train") != trains:
        draft.leave("text_encoder_2.train", "both text encoders are trained, or none")
    if trains and draft.take("epochs") > 30 and "text_encoder.stop_training_after" not in draft.options:
        reason = "there it stops after 30 epochs unless the file says otherwise; ours trains to the end"
        draft.differ("text_encoder.stop_training_after", reason)
    scheduler = draft.choose("learning_rate_scheduler")
    draft.put("scheduler", scheduler, "learning_rate_scheduler")
    warmup, accumulated = draft.take("learning_rate_warmup_steps"), draft.take("gradient_accumulation_steps")
    # Of batches, of which some are one optimizer step.
    draft.put("scheduler.warmup", int(warmup / accumulated) if warmup > 1 else warmup, "learning_rate_warmup_steps")
    cycles = draft.take("learning_rate_cycles")
    if scheduler == "cosine_with_soft_restarts":
        draft.put("scheduler.num_cycles", cycles, "learning_rate_cycles")
    elif scheduler == "cosine_with_restarts":
        number = max(1, int(cycles))
        draft.put("scheduler.num_cycles", number, "learning_rate_cycles")


def _loss(draft: Draft) -> None:
    """Take one of two losses that stands alone; their sums and other losses are not here."""
    strengths = {option: draft.take(f"{option}_strength") for option in ("mse", "mae", "log_cosh", "huber")}
    on = {f"{kind}_strength": strength for kind, strength in strengths.items() if strength}
    is_absolute = on.keys() == {"mae_strength"}
    draft.put("noise.loss_type", "l1" if is_absolute else "l2", "mae_strength" if is_absolute else "mse_strength")
    for option, strength in on.items():
        if option not in ("mse_strength", "mae_strength") or len(on) > 1:
            draft.leave(option, "losses are not added up, and none is log-cosh or theirs of Huber", strength)
        elif strength != 1:
            draft.differ(option, "the loss counts once here: optimizers do not see it, but clipping does", strength)


def _noise(draft: Draft) -> None:
    if draft.options.get("noising_weight") and not draft.given("timestep_distribution"):  # before version 4
        draft.options["timestep_distribution"] = "SIGMOID"
    levels = draft.choose("timestep_distribution")
    draft.put("noise.levels", levels, "timestep_distribution")
    if levels == "logit_normal":
        draft.put("noise.std", draft.take("noising_weight") + 1, "noising_weight")
        draft.put("noise.mean", draft.take("noising_bias"), "noising_bias")
    shift = draft.take("timestep_shift")
    if draft.take("dynamic_timestep_shifting"):
        draft.ignore("timestep_shift", "levels shift with the size: dynamic_timestep_shifting")
        draft.put("noise.shift", "dynamic", "dynamic_timestep_shifting")
    else:
        draft.put("noise.shift", shift, "timestep_shift")
        if shift != 1 and (draft.take("min_noising_strength"), draft.take("max_noising_strength")) != (0, 1):
            draft.differ("timestep_shift", "levels are shifted first here, and then put between lowest and highest")
    function, strength = draft.take("loss_weight_fn"), draft.take("loss_weight_strength")
    keys = {"MIN_SNR_GAMMA": "min_snr_gamma", "P2": "p2_gamma"}
    if function in keys:
        draft.put(f"noise.{keys[function]}", strength, "loss_weight_strength")
        draft.ignore("loss_weight_fn", f"is noise.{keys[function]}")
    elif function == "DEBIASED_ESTIMATION":
        draft.put("noise.debiased", True, "loss_weight_fn")
        draft.differ(
            "loss_weight_fn", "where a base predicts v, ours is kohya's 1 / (SNR + 1); theirs is the root of that"
        )
    elif function != "CONSTANT":
        draft.leave("loss_weight_fn", "no weighing of ours is that; every level counts the same")
