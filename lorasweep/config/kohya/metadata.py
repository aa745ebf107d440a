"""What sd-scripts and musubi-tuner write into a LoRA file about its training, as the options that started it.

Source: kohya-ss/sd-scripts at 48d368fa, train_network.py (metadata), library/model_util.py
(get_model_version_str_for_sd1_sd2); kohya-ss/musubi-tuner at 30c658c, training/trainer_base.py.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Mapping
from typing import Any

from lorasweep.config.bind import TO_BE_GIVEN
from lorasweep.config.importing.draft import Note
from lorasweep.config.importing.images import tables
from lorasweep.config.kohya.flow import BASES
from lorasweep.config.kohya.options import KNOWN, TABLE

_NEEDED = ("ss_network_module", "ss_optimizer")  # a file that has both tells how it was trained
_NOTHING = (None, "None", "", "{}")
_RENAMED = {
    **{"optimizer": "optimizer_type", "batch_size_per_device": "train_batch_size", "vae_name": "vae"},
    **{"sd_model_name": "pretrained_model_name_or_path", "debiased_estimation": "debiased_estimation_loss"},
}
_FLUX = {"t5xxl": "in no LoRA file"}  # by which the base is told, of LyCORIS too
_BASES: dict[str, dict[str, Any]] = {  # by the beginning of what is told of the base; a network of any base is of these
    **{"sdxl": {"sdxl": True}, "flux1": _FLUX, "chroma": {**_FLUX, "model_type": "chroma"}, "sd_": {}},
}
_KLEINS = {f"flux_2_klein_{size}": {"model_version": f"klein-base-{size}"} for size in ("4b", "9b")}
_COUNTED = ("ss_tag_frequency", "ss_bucket_info")  # of the images that were there
_DATASETS = "ss_datasets"
_OF_FOLDERS = {"image_dir", "image_directory", "image_jsonl_file", "class_tokens", "is_reg"}
_SAID = {*TABLE.more["of_datasets"].split(), "train_batch_size"} - _OF_FOLDERS  # of a dataset, in its place
_NOT_KEPT = (
    *("caption_extension", "caption_separator", "bucket_no_upscale", "bucket_reso_steps", "network_weights"),
    *("base_weights", "lr_scheduler_type", "lr_scheduler_args", "lr_scheduler_num_cycles", "lr_scheduler_power"),
    *("min_timestep", "max_timestep", "masked_loss", "loss_type", "scale_v_pred_loss_like_noise_pred"),
    *("v_pred_like_loss", "weighted_captions", "stop_text_encoder_training"),
)


def tells(told: Mapping[str, str]) -> bool:
    """Tell whether a file says how it was trained, not only what network it is."""
    return not any(told.get(key) in _NOTHING for key in _NEEDED)


def is_of_another_base(told: Mapping[str, str]) -> bool:
    """Tell whether a network is of a base that it is not translated for; one for any base is translated for some."""
    base = BASES.get(told.get("ss_network_module", "").removeprefix("musubi_tuner."), "flux1_dev")
    if (version := told.get("ss_base_model_version")) is None:
        return False
    if base == "flux1_dev":
        return not version.startswith(tuple(_BASES))
    return version not in (_KLEINS if base == "flux2_klein" else (base,))


def as_options(told: Mapping[str, str], tensors: Collection[str]) -> dict[str, Any]:
    """Return options by sd-scripts' names; what is only told of the training keeps its `ss_`.

    The names of the tensors tell whether the text encoder was trained.
    """
    options: dict[str, Any] = {}
    for key, text in told.items():
        if key.startswith("ss_") and key not in _COUNTED and text not in _NOTHING:
            option = _RENAMED.get(key[3:], key[3:])
            options[key if key in KNOWN or option not in KNOWN else option] = text
    _base(options, told)
    name, has_arguments, arguments = options["optimizer_type"].partition("(")
    if has_arguments:
        options |= {"optimizer_type": name, "optimizer_args": [arguments.rstrip().removesuffix(")")]}
    if isinstance(arguments := _data(options.get("network_args")), Mapping):
        twice = ("dropout", told.get("ss_network_dropout"))  # which sd-scripts hands to every network as well
        given = [(name, value) for name, value in arguments.items() if (name, str(value)) != twice]
        options["network_args"] = [f"{name}={value}" for name, value in given]
    if isinstance(rates := _data(options.get("text_encoder_lr")), list):
        options["text_encoder_lr"] = rates
    of_text = {name.startswith(("lora_te", "text_encoder")) for name in tensors}
    options |= {"network_train_unet_only": True not in of_text, "network_train_text_encoder_only": False not in of_text}
    _images(options)
    _all_gpus(options)
    return options


def is_kept(content: Mapping[str, Any]) -> bool:
    """Tell whether options are those that a LoRA file keeps."""
    return any(option.startswith("ss_") for option in content)


def not_kept(options: Mapping[str, Any]) -> list[Note]:
    """Tell what a LoRA file says nothing of, so that it may have been given or not."""
    reason = "a LoRA file does not keep them: .txt is taken for captions, else the trainer's default"
    notes = [Note(", ".join(option for option in _NOT_KEPT if option not in options), None, reason)]
    if "model_version" in options:
        notes.append(Note("model_version", None, "a LoRA file does not tell klein from klein-base, which is taken"))
    return notes


def _base(options: dict[str, Any], told: Mapping[str, str]) -> None:
    version = told.get("ss_base_model_version", "")
    bases = {**_BASES, **_KLEINS}
    options |= next((said for beginning, said in bases.items() if version.startswith(beginning)), {})
    if version.endswith("_v") or told.get("modelspec.prediction_type") == "v":
        options["v_parameterization"] = True


def _images(options: dict[str, Any]) -> None:
    """Take what a dataset file said of the first images; of folders only the names are kept."""
    parts: list[dict[str, Any]] = []
    for dataset in tables(_data(options.pop(_DATASETS, None))):
        trained = [subset for subset in tables(dataset.get("subsets")) if not subset.get("is_reg")]
        parts += [{**dataset, **subset} for subset in trained or [{}]]
    said = [{_RENAMED.get(key, key): value for key, value in part.items()} for part in parts]
    said = [{key: value for key, value in each.items() if key in _SAID} for each in said]
    for first in said[:1]:
        options |= {key: value for key, value in first.items() if not isinstance(value, Mapping | None)}
        others = [{key: value for key, value in each.items() if value != first.get(key)} for each in said[1:]]
        if any(others):
            options[_DATASETS] = others
    if options.get("ss_num_reg_images", "0") != "0":
        options["reg_data_dir"] = TO_BE_GIVEN


def _all_gpus(options: dict[str, Any]) -> None:
    """Take the batch of all GPUs together, where it is told."""
    told = ("ss_total_batch_size", "train_batch_size", "gradient_accumulation_steps")
    total, batch, times = (_data(options.get(option)) for option in told)
    if all(isinstance(number, int) and number > 0 for number in (total, batch, times)) and total > batch * times:
        options["train_batch_size"] = total // times


def _data(text: Any) -> Any:
    """Read JSON, or a list as Python writes it; None where it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None
