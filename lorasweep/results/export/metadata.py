"""What an exported file says about itself: kohya's `ss_*` keys, and `lorasweep.*` for what those cannot say.

Takes a `Checkpoint`, returns strings by key. Only what is known is said: an absent key beats a guess. UIs show
these and guess the model family by them; none of them changes a picture.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lorasweep
from lorasweep.core import files, registry
from lorasweep.core.errors import ConfigError
from lorasweep.core.records import JUDGED_BY, MATERIAL, NOT_THE_RECIPE, PlannedImage, Recipe, to_dict
from lorasweep.core.safetensors_header import read_metadata
from lorasweep.plan.lora_files import are_files
from lorasweep.results.export import forms
from lorasweep.results.export.forms import Form
from lorasweep.results.runs import Checkpoint

_RATIO = "loraplus_lr_ratio"  # which is the network's there, not the optimizer's
_ARGUMENTS = ("conv_dim", "conv_alpha", "factor", "rank_dropout", "module_dropout", _RATIO)


def describe(
    saved: Checkpoint, *, output_name: str, text_width: int | None, form: Form, rank: int | None
) -> dict[str, str]:
    """Say what an exported file is.

    `output_name` is its name without its ending, which UIs show as the LoRA's; `text_width` the numbers in a text
    embedding, None when the file does not tell; `rank` what it was cut to, None when it is whole.

    Source: kohya-ss/sd-scripts, train_network.py: the keys and what they count.
    """
    network = _network(saved.recipe, form, rank)
    if are_files(saved.recipe.adapter.name):  # somebody else's training: what the file says of it stands
        told: dict[str, Any] = {**read_metadata(saved.file), **({} if form == "factors" else network)}
    else:
        told = network | _base(saved, text_width, title=output_name) | _training(saved) | _dataset(saved)
        told["lorasweep.recipe"] = _recipe(saved)
    found = {**told, "ss_output_name": output_name, **_ours(saved, form)}
    return {key: _text(value) for key, value in found.items() if value is not None}


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _network(recipe: Recipe, form: Form, rank: int | None) -> dict[str, Any]:
    """Return what the tensors are to kohya's tools; which adapter they come from is in the recipe."""
    if form == "lora":  # as kohya says of files with a rank per module
        dynamic = dict.fromkeys(("ss_network_dim", "ss_network_alpha"), "Dynamic")
        return {"ss_network_module": "networks.lora", **dynamic}
    if form == "diff":
        return {"ss_network_module": "lycoris.kohya", "ss_network_args": {"algo": "full"}}
    adapter, knobs = recipe.adapter, recipe.adapter.options | {_RATIO: recipe.optimizer.options.get(_RATIO)}
    if not forms.names_readers(adapter.name):
        return {}
    module = registry.load("adapter", adapter.name)
    is_kohya = "kohya" in module.READ_BY  # the others are LyCORIS's
    arguments = {key: str(knobs[key]) for key in _ARGUMENTS if knobs.get(key) not in (None, 0)}
    arguments |= {} if is_kohya else getattr(module, "LYCORIS_ARGUMENTS", {"algo": adapter.name})
    return {
        "ss_network_module": "networks.lora" if is_kohya else "lycoris.kohya",
        "ss_network_dim": rank or knobs.get("dim"),
        "ss_network_alpha": knobs.get("alpha"),
        "ss_network_dropout": knobs.get("dropout") or None,
        "ss_network_args": arguments or None,
    }


def _base(saved: Checkpoint, text_width: int | None, *, title: str) -> dict[str, Any]:
    base = saved.recipe.base
    path = Path(base.path) if base.path else None
    module = registry.load("base", base.name)
    versions = module.VERSIONS
    known = next(iter(versions.values())) if len(versions) == 1 else versions.get(text_width)
    version, is_v2, architecture = known or (None, None, None)
    try:
        noised = module.noise(base)
    except ConfigError:  # the base has gone since
        noised = None
    spec = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": architecture,
        "modelspec.title": title,
        "modelspec.resolution": f"{base.resolution}x{base.resolution}",
        "modelspec.prediction_type": noised and ("v" if noised.prediction_type == "v_prediction" else "epsilon"),
    }
    return {
        **(spec if architecture else {}),
        "ss_zero_terminal_snr": noised and noised.zero_terminal_snr,
        "ss_sd_model_name": path.name if path else f"lorasweep {base.name}",
        "ss_clip_skip": None if version == "sdxl_base_v1-0" else base.clip_skip,  # which has none
        "ss_resolution": f"({base.resolution}, {base.resolution})",
        "ss_base_model_version": version,
        "ss_v2": is_v2,
        "ss_new_sd_model_hash": files.sha256(path) if path and path.is_file() else None,
    }


def _training(saved: Checkpoint) -> dict[str, Any]:
    recipe, plan, train = saved.recipe, saved.plan, saved.recipe.train
    knobs = {key: value for key, value in recipe.optimizer.options.items() if value is not None and key != _RATIO}
    noise = recipe.noise
    is_huber = noise.loss_type in ("huber", "smooth_l1")
    lr, text_lr = knobs.pop("lr", None), knobs.pop("text_encoder_lr", None)
    warmup = recipe.scheduler.options.get("warmup")
    if not isinstance(warmup, int | float) or 0 < warmup < 1:
        warmup = None  # a share of the training has no number of its own
    return {
        "ss_optimizer": f"{recipe.optimizer.name}({','.join(f'{key}={value}' for key, value in knobs.items())})",
        "ss_learning_rate": lr,
        "ss_unet_lr": lr,
        "ss_text_encoder_lr": (lr if text_lr is None else text_lr)
        if recipe.adapter.options.get("text_encoder")
        else None,
        "ss_lr_scheduler": recipe.scheduler.name,
        "ss_lr_warmup_steps": None if warmup is None else int(warmup),
        "ss_max_grad_norm": train.max_grad_norm,
        "ss_noise_offset": noise.offset,
        "ss_adaptive_noise_scale": noise.adaptive_noise_scale or None,
        "ss_multires_noise_iterations": noise.multires_iterations or None,
        "ss_multires_noise_discount": noise.multires_discount if noise.multires_iterations else None,
        "ss_ip_noise_gamma": noise.input_perturbation or None,
        "ss_loss_type": noise.loss_type,
        "ss_huber_schedule": noise.huber_schedule if is_huber else None,
        "ss_huber_c": noise.huber_c if is_huber else None,
        "ss_min_snr_gamma": str(noise.min_snr_gamma),
        "ss_debiased_estimation": noise.debiased,
        "ss_scale_weight_norms": recipe.regularization.get("scale_norm", {}).get("max_norm"),
        "ss_mixed_precision": "no" if train.precision == "fp32" else train.precision,
        "ss_seed": recipe.seed,
        "ss_steps": saved.step,
        "ss_max_train_steps": plan.steps,
        "ss_epoch": -(-saved.step // plan.steps_per_epoch),
        "ss_num_epochs": -(-plan.steps // plan.steps_per_epoch),
        "ss_num_batches_per_epoch": plan.batches_per_epoch,
        "ss_batch_size_per_device": train.batch_size,
        "ss_total_batch_size": train.batch_size * train.gradient_accumulation,
        "ss_gradient_accumulation_steps": train.gradient_accumulation,
        "ss_training_started_at": saved.record.started_at,
        "ss_training_finished_at": saved.record.ended_at,
    }


def _dataset(saved: Checkpoint) -> dict[str, Any]:
    """Count images with repeats, as kohya does; those held out are not counted."""
    images, reg_images, captions = saved.plan.train_images(), saved.plan.reg_images, saved.recipe.captions
    buckets: Counter[tuple[int, int]] = Counter()
    tags: dict[str, Counter[str]] = {}
    for image in images:
        buckets[image.bucket.width_px, image.bucket.height_px] += image.repeats
        words = (word.strip() for word in image.caption.split(","))
        tags.setdefault(image.concept, Counter()).update(word for word in words if word)
    numbered = enumerate(sorted(buckets.items()))
    loss_weights = sorted({image.loss_weight for image in reg_images})
    return {
        "ss_num_train_images": sum(image.repeats for image in images),
        "ss_dataset_dirs": _folders(images),
        "ss_num_reg_images": sum(image.repeats for image in reg_images),
        "ss_reg_dataset_dirs": _folders(reg_images),
        "ss_prior_loss_weight": ", ".join(f"{weight:g}" for weight in loss_weights) or None,
        "ss_tag_frequency": {folder: dict(counted.most_common()) for folder, counted in tags.items()},
        "ss_bucket_info": {
            "buckets": {str(n): {"resolution": list(size), "count": count} for n, (size, count) in numbered}
        },
        "ss_shuffle_caption": captions.shuffle,
        "ss_keep_tokens": captions.keep_tokens,
        "ss_caption_dropout_rate": captions.dropout,
        "ss_caption_tag_dropout_rate": captions.tag_dropout,
    }


def _folders(images: Iterable[PlannedImage]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for image in images:
        found.setdefault(image.concept, {"n_repeats": image.repeats, "img_count": 0})["img_count"] += 1
    return found


def _ours(saved: Checkpoint, form: Form) -> dict[str, Any]:
    scores = {name: saved.metrics.get(name) for name in ("overcook/score", "overcook/utility")}
    return {
        "lorasweep.version": lorasweep.__version__,
        "lorasweep.sweep": saved.sweep,
        "lorasweep.trial": saved.folder.name,
        "lorasweep.arm": saved.record.arm,
        "lorasweep.step": saved.step,
        "lorasweep.form": form,
        "lorasweep.read_by": ", ".join(forms.read_by(saved.recipe.adapter.name, form, base=saved.recipe.base.name)),
        "lorasweep.weight": saved.recipe.sample.weight,
        "lorasweep.plan_fingerprint": saved.plan.fingerprint,
        **{f"lorasweep.{name}": score for name, score in scores.items()},
    }


def _recipe(saved: Checkpoint) -> dict[str, Any]:
    """Return the recipe, its folders by name only: such a file travels, and paths tell of their owner."""
    data: dict[str, Any] = {key: value for key, value in to_dict(saved.recipe).items() if key not in NOT_THE_RECIPE}
    for key in (*MATERIAL, *JUDGED_BY):
        *parts, name = key.replace("adapter.init", "adapter.options.init").split(".")
        part = functools.reduce(lambda part, inner: part.get(inner, {}), parts, data)
        if part.get(name):
            part[name] = Path(part[name]).name
    return data
