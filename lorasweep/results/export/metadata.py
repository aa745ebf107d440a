"""What an exported file says about itself: kohya's `ss_*` keys, and `lorasweep.*` for what those cannot say.

Takes a `CookedRun`, returns strings by key. Only what is known is said: an absent key beats a guess. UIs show
these and guess the model family by them; none of them changes a picture.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import lorasweep
from lorasweep.core import files
from lorasweep.core.records import Component, to_dict
from lorasweep.results.export import forms
from lorasweep.results.export.forms import Form
from lorasweep.results.export.runs import CookedRun

_FAMILIES = {768: ("sd_v1", False), 1024: ("sd_v2", True)}  # by the width of the text embeddings
_ARGUMENTS = ("conv_dim", "conv_alpha", "factor")
_KOHYA_KINDS = ("lora", "locon", "dylora")  # LoRA files; the others are LyCORIS's


def describe(
    run: CookedRun, *, output_name: str, text_width: int | None, form: Form, rank: int | None
) -> dict[str, str]:
    """The metadata of an exported file.

    Args:
        run: what was cooked.
        output_name: the file's name without its ending, which UIs show as the LoRA's.
        text_width: numbers in a text embedding; None when it cannot be told from the file.
        form: what its tensors are.
        rank: what the file was cut to; None when it is whole.

    Source: kohya-ss/sd-scripts, train_network.py: the keys and what they count.
    """
    found: dict[str, Any] = {
        "ss_output_name": output_name,
        **_network(run.recipe.adapter, form, rank),
        **_base(run, text_width),
        **_optimizer(run),
        **_budget(run),
        **_dataset(run),
        **_regularization(run),
        **_ours(run, form),
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items()}


def _network(adapter: Component, form: Form, rank: int | None) -> dict[str, Any]:
    """What the tensors are to kohya's tools; which adapter they come from is in the recipe."""
    if form == "lora":  # as kohya says of files with a rank per module
        dynamic = dict.fromkeys(("ss_network_dim", "ss_network_alpha"), "Dynamic")
        return {"ss_network_module": "networks.lora", **dynamic}
    if form == "diff":
        return {"ss_network_module": "lycoris.kohya", "ss_network_args": {"algo": "full"}}
    knobs = adapter.options
    is_kohya = adapter.name in _KOHYA_KINDS
    arguments = {key: str(value) for key, value in knobs.items() if key in _ARGUMENTS}
    if adapter.name == "dora":
        arguments |= {"algo": "lora", "dora_wd": "True", "wd_on_output": "True"}
    elif not is_kohya:
        arguments["algo"] = adapter.name
    found: dict[str, Any] = {"ss_network_module": "networks.lora" if is_kohya else "lycoris.kohya"}
    if "dim" in knobs:
        found |= {"ss_network_dim": str(rank or knobs["dim"]), "ss_network_alpha": str(knobs["alpha"])}
    if knobs.get("dropout"):
        found["ss_network_dropout"] = str(knobs["dropout"])
    return found | ({"ss_network_args": arguments} if arguments else {})


def _base(run: CookedRun, text_width: int | None) -> dict[str, Any]:
    base = run.recipe.base
    path = Path(base.path) if base.path else None
    found: dict[str, Any] = {
        "ss_sd_model_name": path.name if path else f"lorasweep {base.name}",
        "ss_clip_skip": str(base.clip_skip),
        "ss_resolution": f"({base.resolution}, {base.resolution})",
    }
    if text_width in _FAMILIES:
        version, is_v2 = _FAMILIES[text_width]
        found |= {"ss_base_model_version": version, "ss_v2": str(is_v2)}
    if path and path.is_file():
        found["ss_new_sd_model_hash"] = files.sha256(path)
    return found


def _optimizer(run: CookedRun) -> dict[str, Any]:
    optimizer, scheduler, train = run.recipe.optimizer, run.recipe.scheduler, run.recipe.train
    knobs = dict(optimizer.options)
    lr, text_lr = knobs.pop("lr", None), knobs.pop("text_encoder_lr", None)
    found: dict[str, Any] = {
        "ss_optimizer": f"{optimizer.name}({','.join(f'{key}={value}' for key, value in knobs.items())})",
        "ss_lr_scheduler": scheduler.name,
        "ss_max_grad_norm": str(train.max_grad_norm),
        "ss_noise_offset": str(run.recipe.noise.offset),
        "ss_min_snr_gamma": str(run.recipe.noise.min_snr_gamma),
        "ss_mixed_precision": "no" if train.precision == "fp32" else train.precision,
        "ss_seed": str(run.recipe.seed),
    }
    if lr is not None:
        found |= {"ss_learning_rate": str(lr), "ss_unet_lr": str(lr)}
        if run.recipe.adapter.options.get("text_encoder"):
            found["ss_text_encoder_lr"] = str(lr if text_lr is None else text_lr)
    warmup = scheduler.options.get("warmup")
    if isinstance(warmup, int | float) and (warmup == 0 or warmup >= 1):
        found["ss_lr_warmup_steps"] = str(int(warmup))  # a share of the training has no number of its own
    return found


def _budget(run: CookedRun) -> dict[str, Any]:
    plan, train, status = run.plan, run.recipe.train, run.status
    found = {
        "ss_steps": str(run.step),
        "ss_max_train_steps": str(plan.steps),
        "ss_epoch": str(-(-run.step // plan.steps_per_epoch)),
        "ss_num_epochs": str(-(-plan.steps // plan.steps_per_epoch)),
        "ss_num_batches_per_epoch": str(plan.batches_per_epoch),
        "ss_total_batch_size": str(train.batch_size * train.gradient_accumulation),
        "ss_gradient_accumulation_steps": str(train.gradient_accumulation),
    }
    for key, moment in (("started", "started_at"), ("finished", "ended_at")):
        if status.get(moment) is not None:
            found[f"ss_training_{key}_at"] = str(status[moment])
    return found


def _dataset(run: CookedRun) -> dict[str, Any]:
    """Images as they were trained on: those held out are not counted."""
    images, captions = run.plan.train_images(), run.recipe.captions
    buckets: Counter[tuple[int, int]] = Counter()
    tags: dict[str, Counter[str]] = {}
    folders: dict[str, dict[str, int]] = {}
    for image in images:
        buckets[image.bucket.width_px, image.bucket.height_px] += image.repeats
        folder = folders.setdefault(image.concept, {"n_repeats": image.repeats, "img_count": 0})
        folder["img_count"] += 1
        words = (word.strip() for word in image.caption.split(","))
        tags.setdefault(image.concept, Counter()).update(word for word in words if word)
    numbered = enumerate(sorted(buckets.items()))
    return {
        "ss_num_train_images": str(sum(image.repeats for image in images)),
        "ss_dataset_dirs": folders,
        "ss_tag_frequency": {folder: dict(counted.most_common()) for folder, counted in tags.items()},
        "ss_bucket_info": {
            "buckets": {str(n): {"resolution": list(size), "count": count} for n, (size, count) in numbered}
        },
        "ss_shuffle_caption": str(captions.shuffle),
        "ss_keep_tokens": str(captions.keep_tokens),
        "ss_caption_dropout_rate": str(captions.dropout),
    }


def _regularization(run: CookedRun) -> dict[str, Any]:
    """Brakes and regularization images; as in kohya's files, their number is with repeats."""
    images, folders = run.plan.reg_images, dict[str, dict[str, int]]()
    for image in images:
        folder = folders.setdefault(image.concept, {"n_repeats": image.repeats, "img_count": 0})
        folder["img_count"] += 1
    found: dict[str, Any] = {
        "ss_num_reg_images": str(sum(image.repeats for image in images)),
        "ss_reg_dataset_dirs": folders,
    }
    if weights := {image.loss_weight for image in images}:
        found["ss_prior_loss_weight"] = ", ".join(f"{weight:g}" for weight in sorted(weights))
    if (limit := run.recipe.regularization.get("scale_norm")) is not None:
        found["ss_scale_weight_norms"] = str(limit["max_norm"])
    return found


def _ours(run: CookedRun, form: Form) -> dict[str, Any]:
    found: dict[str, Any] = {
        "lorasweep.version": lorasweep.__version__,
        "lorasweep.sweep": run.sweep,
        "lorasweep.trial": run.folder.name,
        "lorasweep.arm": str(run.status.get("arm", "")),
        "lorasweep.step": str(run.step),
        "lorasweep.form": form,
        "lorasweep.read_by": ", ".join(forms.read_by(run.recipe.adapter.name, form)),
        "lorasweep.weight": str(run.recipe.sample.weight),
        "lorasweep.recipe": _recipe(run),
        "lorasweep.plan_fingerprint": run.plan.fingerprint,
    }
    for name in ("overcook/score", "overcook/utility"):
        if name in run.metrics:
            found[f"lorasweep.{name}"] = repr(run.metrics[name])
    return found


def _recipe(run: CookedRun) -> dict[str, Any]:
    """The recipe, its folders by name only: such a file travels, and paths tell of their owner."""
    data: dict[str, Any] = to_dict(run.recipe)
    for part in (data["base"], data["dataset"], *data["regularization"].values()):
        if part.get("path"):
            part["path"] = Path(part["path"]).name
    del data["tracking"], data["launcher"]
    return data
