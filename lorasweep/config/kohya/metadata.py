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
from lorasweep.config.kohya.flow import LYCORIS
from lorasweep.config.kohya.options import KNOWN, TABLE

_NEEDED = ("ss_network_module", "ss_optimizer")  # a file that has both tells how it was trained
_NOTHING = (None, "None", "")
_RENAMED = {
    **{"optimizer": "optimizer_type", "batch_size_per_device": "train_batch_size", "vae_name": "vae"},
    **{"sd_model_name": "pretrained_model_name_or_path", "debiased_estimation": "debiased_estimation_loss"},
}
_FLUX = {"t5xxl": "in no LoRA file"}  # by which the base is told, of LyCORIS too
_BASES: dict[str, dict[str, Any]] = {  # by the beginning of what is told of the base; LyCORIS is translated for these
    **{"sdxl": {"sdxl": True}, "flux1": _FLUX, "chroma": {**_FLUX, "model_type": "chroma"}, "sd_": {}},
}
_COUNTED = ("ss_tag_frequency", "ss_bucket_info")  # of the images that were there
_DIRS, _DATASETS = ("ss_dataset_dirs", "ss_reg_dataset_dirs"), "ss_datasets"
_OF_FOLDERS = {"image_dir", "image_directory", "image_jsonl_file", "num_repeats", "class_tokens", "is_reg"}
_SAID = {*TABLE.more["of_datasets"].split(), "train_batch_size"} - _OF_FOLDERS  # of a dataset, in its place
_NOT_KEPT = (
    *("caption_extension", "caption_separator", "bucket_no_upscale", "network_weights"),
    *("lr_scheduler_type", "lr_scheduler_num_cycles", "min_timestep", "max_timestep"),
)


def tells(told: Mapping[str, str]) -> bool:
    """Tell whether a file says how it was trained, not only what network it is."""
    return not any(told.get(key) in _NOTHING for key in _NEEDED)


def is_of_another_base(told: Mapping[str, str]) -> bool:
    """Tell whether a file is LyCORIS' for a base that it is not translated for."""
    version = told.get("ss_base_model_version", "sd_")
    return told.get("ss_network_module") in LYCORIS and not version.startswith(tuple(_BASES))


def as_options(told: Mapping[str, str], tensors: Collection[str]) -> dict[str, Any]:
    """Return options by sd-scripts' names; what is only told of the training keeps its `ss_`.

    Args:
        told: what a file says about itself.
        tensors: their names, which tell whether the text encoder was trained.
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
        options["network_args"] = [f"{name}={value}" for name, value in arguments.items()]
    if isinstance(rates := _data(options.get("text_encoder_lr")), list):
        options["text_encoder_lr"] = rates
    options |= {key: [*dirs] for key in _DIRS if isinstance(dirs := _data(options.get(key)), Mapping)}
    for part, only in (("lora_te", "unet"), ("lora_unet", "text_encoder")):
        options[f"network_train_{only}_only"] = not any(name.startswith(part) for name in tensors)
    _images(options)
    return options


def is_kept(content: Mapping[str, Any]) -> bool:
    """Tell whether options are those that a LoRA file keeps."""
    return any(option.startswith("ss_") for option in content)


def not_kept(options: Mapping[str, Any]) -> Note:
    """Tell what a LoRA file says nothing of, so that it may have been given or not."""
    reason = "a LoRA file does not keep them: .txt is taken for captions, else sd-scripts' default"
    return Note(", ".join(option for option in _NOT_KEPT if option not in options), None, reason)


def _base(options: dict[str, Any], told: Mapping[str, str]) -> None:
    version = told.get("ss_base_model_version", "")
    options |= next((said for beginning, said in _BASES.items() if version.startswith(beginning)), {})
    if version.endswith("_v") or told.get("modelspec.prediction_type") == "v":
        options["v_parameterization"] = True


def _images(options: dict[str, Any]) -> None:
    """Take what a dataset file said of the first dataset; of folders only the names are kept."""
    datasets = tables(_data(options.pop(_DATASETS, None)))
    for dataset in datasets[:1]:
        trained = [subset for subset in tables(dataset.get("subsets")) if not subset.get("is_reg")]
        for part in (dataset, *trained[:1]):
            said = {_RENAMED.get(key, key): value for key, value in part.items()}
            options |= {key: value for key, value in said.items() if key in _SAID and value is not None}
    if len(datasets) > 1:
        options[_DATASETS] = [dataset.get("resolution") for dataset in datasets]
    if options.get("ss_num_reg_images", "0") != "0":
        options["reg_data_dir"] = TO_BE_GIVEN


def _data(text: Any) -> Any:
    """Read JSON, or a list as Python writes it; None where it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None
